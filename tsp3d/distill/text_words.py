"""Words of the household for distilling the text encoder: names of things, and words that describe them.

Broader than the generated sentences on purpose: people name a sofa in a dozen ways, and a scan holds things that no
generator places.
"""

from __future__ import annotations

NAMES: dict[str, str] = {
    "chair": "chair, seat, dining chair, side chair, wooden chair, folding chair, kitchen chair",
    "office chair": "office chair, desk chair, swivel chair, computer chair, task chair, rolling chair, gaming chair",
    "armchair": "armchair, easy chair, recliner, lounge chair, wing chair, club chair, accent chair, rocking "
    "chair, rocker",
    "stool": "stool, bar stool, footstool, ottoman, pouf, hassock, barstool, step stool",
    "bench": "bench, pew, window seat, settle, piano bench, long seat",
    "sofa": "sofa, couch, settee, davenport, loveseat, divan, chesterfield, futon, sectional, lounge, chaise longue",
    "bed": "bed, double bed, single bed, bunk bed, cot, crib, mattress, berth, bedstead, four poster, king size bed",
    "table": "table, dining table, round table, kitchen table, conference table, meeting table, side table, end "
    "table, trestle",
    "coffee table": "coffee table, low table, cocktail table, tea table, living room table",
    "desk": "desk, writing desk, work desk, computer desk, workstation, writing table, bureau, study desk, office desk",
    "nightstand": "nightstand, night table, bedside table, bedside cabinet, night stand",
    "bookshelf": "bookshelf, bookcase, shelf, shelving unit, shelves, book rack, shelving, open shelf",
    "cabinet": "cabinet, cupboard, sideboard, credenza, filing cabinet, file cabinet, buffet, hutch, console, locker",
    "kitchen cabinet": "kitchen cabinet, kitchen cupboard, wall cabinet, kitchen unit, base cabinet, pantry cupboard",
    "wardrobe": "wardrobe, closet, armoire, clothes cupboard, clothes closet",
    "dresser": "dresser, chest of drawers, drawers, chest, commode, tallboy, drawer unit, vanity, lowboy",
    "lamp": "lamp, light, floor lamp, table lamp, desk lamp, lantern, chandelier, lampshade, reading light, "
    "sconce, ceiling light",
    "door": "door, doorway, entrance, entryway, sliding door, double door, exit, gate, front door",
    "window": "window, windowpane, skylight, bay window, window frame, casement",
    "curtain": "curtain, drape, drapes, drapery, blinds, window blind, shade, shutter, valance, curtains, shower "
    "curtain",
    "sink": "sink, basin, washbasin, wash basin, washstand, kitchen sink, handbasin, lavabo",
    "bathtub": "bathtub, tub, bath, hot tub, jacuzzi, whirlpool, soaking tub",
    "shower": "shower, shower stall, shower cabin, shower cubicle, shower enclosure, walk in shower",
    "toilet": "toilet, lavatory, loo, water closet, toilet bowl, toilet seat, john, latrine, privy, urinal, bidet",
    "radiator": "radiator, heater, heating, heating unit, convector, space heater, baseboard heater",
    "tv": "tv, television, television set, tv set, telly, flat screen, flat screen tv, tube, big screen",
    "monitor": "monitor, computer screen, display, screen, computer monitor, desktop screen, computer display",
    "laptop": "laptop, notebook computer, laptop computer, portable computer, macbook, notebook",
    "keyboard": "keyboard, computer keyboard, keypad, typing keyboard",
    "refrigerator": "refrigerator, fridge, icebox, freezer, fridge freezer, cooler, mini fridge",
    "oven": "oven, stove, cooker, range, hob, cooktop, kitchen stove, gas stove, burner",
    "microwave": "microwave, microwave oven, microwave cooker",
    "washing machine": "washing machine, washer, laundry machine, clothes washer, dryer, tumble dryer, dishwasher",
    "plant": "plant, potted plant, houseplant, flowerpot, flowers, pot plant, fern, cactus, ficus, shrub, "
    "greenery, tree, bush",
    "box": "box, carton, cardboard box, crate, container, package, storage box, bin box, parcel, case, packing case",
    "bag": "bag, backpack, handbag, rucksack, suitcase, purse, satchel, duffel bag, tote, knapsack, sack, "
    "luggage, briefcase",
    "trash can": "trash can, bin, garbage can, wastebasket, dustbin, rubbish bin, waste bin, trash bin, waste "
    "basket, litter bin, garbage bin, recycling bin, wastepaper basket, trashcan, ashcan",
    "rug": "rug, carpet, mat, floor mat, doormat, throw rug, area rug, bath mat, runner, carpeting",
    "pillow": "pillow, cushion, throw pillow, bolster, headrest, scatter cushion, pad",
    "picture": "picture, painting, poster, photograph, photo, frame, artwork, print, portrait, picture frame, "
    "canvas, drawing, mural",
    "mirror": "mirror, looking glass, wall mirror, dressing mirror, vanity mirror, reflector",
    "whiteboard": "whiteboard, white board, blackboard, chalkboard, board, bulletin board, notice board, dry "
    "erase board",
    "clock": "clock, wall clock, alarm clock, timepiece, grandfather clock, timer",
    "vase": "vase, flower vase, urn, jar, pitcher, jug, ewer, flower jar",
    "books": "books, book, stack of books, novels, textbooks, volumes, magazines, pile of books, binders, paperback",
    "fireplace": "fireplace, hearth, chimney, mantel, mantelpiece, wood stove, fire place, ingle",
    "piano": "piano, grand piano, upright piano, pianoforte, electric piano, baby grand",
    "bottle": "bottle, flask, water bottle, wine bottle, canteen, thermos, carafe, decanter, soap bottle",
}
"""Canonical class → names that people give it, comma-separated."""

OTHER_THINGS = """
wall, floor, ceiling, corner, room, column, pillar, beam, stairs, staircase, step, railing, banister,
handrail, ledge, sill, windowsill, counter, countertop, kitchen counter, worktop, kitchen island, bar,
reception, cubicle, partition, divider, room divider, screen, coat rack, coat hanger, hanger, hook, hat stand,
clothes rack, shoe rack, rack, stand, tripod, easel, podium, lectern, ladder, stepladder, printer, copier,
photocopier, scanner, projector, projector screen, computer, computer tower, pc, server, tablet, mouse,
mousepad, phone, telephone, cell phone, router, speaker, loudspeaker, stereo, radio, headphones, camera,
remote, remote control, game console, record player, amplifier, guitar, violin, drum, drums, organ, music
stand, fan, ceiling fan, air conditioner, vent, humidifier, thermostat, boiler, water heater, pipe, socket,
outlet, power strip, cable, cord, wire, switch, light switch, fire extinguisher, fire alarm, smoke detector,
sprinkler, vacuum cleaner, vacuum, broom, mop, bucket, dustpan, brush, iron, ironing board, laundry basket,
hamper, basket, clothes, coat, jacket, shirt, trousers, dress, hat, cap, shoe, shoes, boots, slippers, towel,
towel rack, toilet paper, toilet brush, paper towel, soap, soap dispenser, shampoo, sponge, toothbrush,
toothpaste, comb, hair dryer, scale, bathroom scale, faucet, tap, drain, plunger, medicine cabinet, bathroom
cabinet, tile, blanket, quilt, duvet, comforter, sheet, bedspread, headboard, bed frame, canopy, teddy bear,
toy, doll, ball, balloon, puzzle, kite, toy car, stroller, high chair, playpen, changing table, baby bed,
cradle, bassinet, cup, mug, glass, wine glass, plate, dish, bowl, saucer, fork, knife, spoon, spatula, ladle,
pot, pan, frying pan, saucepan, kettle, teapot, coffee maker, coffee machine, espresso machine, toaster,
blender, mixer, food processor, rice cooker, cutting board, dish rack, tray, napkin, tablecloth, placemat,
candle, candlestick, candle holder, food, bread, fruit, apple, banana, orange, pumpkin, cake, tea, coffee,
water dispenser, water cooler, vending machine, dispenser, paper, papers, document, folder, envelope,
calendar, map, globe, newspaper, pen, pencil, marker, ruler, scissors, stapler, tape, calculator, notepad,
paper cutter, shredder, card, statue, sculpture, figurine, ornament, trophy, flag, sign, banner, aquarium,
fish tank, bird cage, dog, cat, dog bed, pet bed, person, man, woman, child, bicycle, bike, scooter,
skateboard, helmet, treadmill, dumbbell, exercise bike, yoga mat, exercise ball, weights, punching bag, tennis
racket, golf bag, umbrella, umbrella stand, walking stick, cane, wheelchair, crutches, tool, toolbox, hammer,
drill, saw, screwdriver, workbench, shovel, rake, hose, barrel, drum, tank, cylinder, pallet, cart, trolley,
wagon, tea cart, hand truck, safe, mailbox, letterbox, doorbell, door frame, door handle, knob, handle, lock,
key, drawer, panel, board, plank, post, pole, rod, curtain rod, rope, chain, net, tarp, tent, foosball,
foosball table, pool table, billiard table, ping pong table, card table, sewing machine, typewriter, drinking
fountain, elevator, escalator, garage door, grill, barbecue, sunbed, hammock, swing, beanbag, bean bag,
massage chair, bassoon, cello, trumpet, flute, harp, tissue box, tissues, wallet, watch, jewelry box, perfume,
makeup, medicine, first aid kit, lunch box, shopping bag, plastic bag, paper bag, trunk, footlocker, wine
rack, wine cooler, spice rack, bread box, cookie jar, pizza box, egg, cheese, bottle opener, dumpster, ash
tray, ashtray, light bulb, neon light, spotlight, string lights, disco ball, night light, flashlight, battery,
charger
"""
"""Things that are none of the classes, so that the student tells them from those that are."""

ADJECTIVES = """
white, black, gray, grey, red, orange, yellow, green, blue, purple, pink, brown, beige, dark, light, bright,
pale, tan, cream, ivory, silver, golden, gold, navy, turquoise, teal, maroon, crimson, scarlet, burgundy,
violet, lavender, magenta, olive, khaki, charcoal, off white, dark brown, light blue, dark gray, light green,
colorful, multicolored, striped, checkered, plain, patterned, floral, transparent, opaque, shiny, glossy,
matte, dull, wooden, wood, metal, metallic, steel, iron, brass, copper, aluminum, chrome, leather, fabric,
cloth, velvet, cotton, woolen, linen, glass, plastic, rubber, ceramic, porcelain, stone, marble, granite,
concrete, brick, wicker, rattan, bamboo, oak, pine, walnut, mahogany, cardboard, paper, upholstered, padded,
cushioned, soft, hard, big, large, huge, giant, enormous, small, tiny, little, mini, compact, medium, average,
tall, high, low, short, long, wide, broad, narrow, slim, thin, thick, deep, shallow, flat, round, circular,
oval, square, rectangular, triangular, curved, straight, cylindrical, l-shaped, angular, bent, old, new,
modern, antique, vintage, rustic, contemporary, traditional, classic, fancy, simple, elegant, ugly, beautiful,
cheap, expensive, worn, broken, clean, dirty, dusty, empty, full, open, closed, half open, folded, rolled,
stacked, messy, tidy, cluttered, cozy, comfortable, heavy, lightweight, sturdy, portable, mounted,
freestanding, built in, wall mounted, hanging, framed, lit, electric, electronic, digital, manual, double,
single, twin, swivel, adjustable, foldable, wheeled, rolling, three legged, four legged, armless, backless,
highest, lowest, tallest, shortest, largest, biggest, smallest, widest, narrowest, longest, nearest, closest,
farthest, furthest, first, second, third, fourth, fifth, last, middle, leftmost, rightmost, other, same, only,
left, right, upper, lower, top, bottom, central, front, rear, back, far, near
"""

RELATIONS = """
next to, beside, by, near, close to, adjacent to, alongside, right next to, far from, away from, across from,
opposite, facing, on, on top of, atop, upon, resting on, sitting on, standing on, above, over, higher than,
hanging over, under, underneath, beneath, below, lower than, left of, to the left of, on the left side of,
right of, to the right of, on the right side of, in front of, before, behind, in back of, at the back of, to
the rear of, inside, in, within, outside, against, leaning against, attached to, mounted on, around, along, at
the end of, at the foot of, at the head of, in the corner by, in the middle of, in the center of, at the edge
of, supporting, closest to, nearest to, farthest from, furthest from, touching, connected to, pushed under,
covered by, parallel to, perpendicular to, past, toward, towards, beyond, diagonal from, flanking, surrounded
by, not near
"""

VERBS = """
is, stands, sits, hangs, lies, rests, can be found, is placed, is located, is positioned, is standing, is
sitting, is leaning, is mounted, is hidden, was left, is situated, belongs, is pushed, is tucked, faces, is
kept, stays, appears, looks, seems to be
"""

PLACES = """
in the corner, in the room, by the window, near the door, against the wall, on the floor, on the wall, in the
middle of the room, in the center, at the back, at the far end, on the left, on the right, in the kitchen, in
the bathroom, in the bedroom, in the living room, in the office, in the hallway, at the entrance, when you
enter the room, as you walk in, on the left side of the room, on the right side of the room, if you face the
window, looking from the door, upstairs, in the left corner, in the right corner, under the ceiling, facing
the door, with your back to the door, along the wall
"""


def words(text: str) -> list[str]:
    """The comma-separated entries of one of the lists above."""
    return [" ".join(entry.split()) for entry in text.split(",") if entry.strip()]


def things() -> list[str]:
    """All names of things, each once, in a fixed order."""
    found = [name for names in NAMES.values() for name in words(names)] + words(OTHER_THINGS)
    return list(dict.fromkeys(found))

"""Word lists of the built-in captions: what everyday prompts speak of, gathered by hand.

Every entry of a list is one word or phrase, parted by commas. Nouns stand in the singular and without an article.
"""

from __future__ import annotations


def _entries(text: str) -> tuple[str, ...]:
    return tuple(" ".join(entry.split()) for entry in text.split(",") if entry.strip())


# --- things that can be the subject ----------------------------------------------------------------------------------

PEOPLE = _entries("""
man, woman, boy, girl, child, baby, toddler, teenager, king, queen, prince, princess, knight, wizard, witch, pirate,
samurai, ninja, soldier, farmer, fisherman, sailor, captain, pilot, astronaut, doctor, nurse, teacher, student,
scientist, engineer, mechanic, carpenter, blacksmith, baker, chef, waiter, barista, gardener, florist, painter,
sculptor, photographer, musician, singer, drummer, guitarist, violinist, dancer, ballerina, actor, clown, magician,
athlete, runner, swimmer, surfer, skier, cyclist, boxer, climber, cowboy, monk, priest, nun, judge, lawyer, detective,
policeman, firefighter, postman, librarian, shepherd, hunter, archer, viking, gladiator, emperor, mermaid, fairy, elf,
dwarf, giant, angel, vampire, zombie, superhero, cyborg, old lady, old man, young mother, businessman, bride, groom,
tourist, traveler, hiker, street vendor, construction worker, football player, chess player, news reporter
""")
ANIMALS = _entries("""
dog, cat, puppy, kitten, horse, pony, donkey, cow, bull, calf, sheep, lamb, goat, pig, piglet, rabbit, hamster, mouse,
rat, squirrel, hedgehog, fox, wolf, bear, polar bear, panda, koala, kangaroo, lion, lioness, tiger, leopard, cheetah,
jaguar, elephant, giraffe, zebra, hippo, rhino, camel, llama, deer, reindeer, moose, buffalo, monkey, gorilla,
chimpanzee, lemur, sloth, raccoon, skunk, beaver, otter, seal, walrus, whale, dolphin, shark, octopus, squid,
jellyfish, crab, lobster, starfish, seahorse, goldfish, salmon, turtle, tortoise, lizard, gecko, chameleon, crocodile,
snake, frog, toad, bird, eagle, hawk, owl, crow, raven, parrot, pigeon, sparrow, robin, hummingbird, swan, duck,
goose, chicken, rooster, peacock, flamingo, penguin, ostrich, pelican, seagull, butterfly, moth, bee, beetle, ladybug,
dragonfly, ant, spider, snail, dinosaur, dragon, unicorn, phoenix, corgi, husky, poodle, bulldog, dachshund, golden
retriever
""")
TOYS = _entries("""
teddy bear, teddy, doll, puppet, robot, toy car, toy train, action figure, stuffed rabbit, plush elephant, rubber
duck, kite, ball, balloon, yo-yo, spinning top, puzzle, dollhouse, rocking horse, wooden soldier, snowman, scarecrow,
gingerbread man, garden gnome, marionette, piggy bank, snow globe, music box, jack-in-the-box, building block
""")
THINGS = _entries("""
cup, mug, glass, teapot, coffee pot, kettle, jug, pitcher, bottle, bowl, plate, fork, spoon, knife, pan, pot, lid,
jar, vase, basket, bucket, box, crate, barrel, chest, suitcase, backpack, handbag, purse, wallet, umbrella, fan,
mirror, comb, brush, toothbrush, towel, pillow, blanket, quilt, carpet, curtain, candle, lantern, lamp, chandelier,
light bulb, clock, alarm clock, pocket watch, hourglass, compass, globe, telescope, microscope, magnifying glass,
camera, television, radio, record player, speaker, headset, microphone, telephone, typewriter, keyboard, laptop,
computer, tablet, printer, book, notebook, newspaper, magazine, envelope, letter, postcard, map, scroll, pencil, pen,
paintbrush, easel, scissors, stapler, ruler, calculator, chair, armchair, rocking chair, stool, bench, sofa, bed,
cradle, table, desk, bookshelf, cabinet, wardrobe, drawer, door, window, ladder, hammer, saw, screwdriver, wrench,
drill, axe, shovel, rake, wheelbarrow, lawn mower, anvil, chain, rope, anchor, key, padlock, coin, medal, trophy,
crown, ring, necklace, bracelet, brooch, sword, shield, helmet, bow, arrow, spear, cannon, flag, drum, guitar, violin,
cello, piano, flute, trumpet, saxophone, harp, accordion, banjo, bell, whistle, chessboard, dice, skateboard,
surfboard, snowboard, sled, tennis racket, baseball bat, golf club, football, basketball, bicycle wheel, gear,
battery, microchip, satellite dish, fire hydrant, mailbox, traffic light, street lamp, sundial, weather vane,
birdcage, birdhouse, aquarium, flowerpot, watering can, fountain, statue, sculpture, bust, totem pole, mask, skull,
crystal ball, magic wand, potion, treasure chest, feather, seashell, pebble, pearl, diamond, gemstone, fossil, origami
crane, paper boat, ornament, wreath, lighter, pipe, ashtray
""")
CLOTHES = _entries("""
hat, cap, beret, top hat, straw hat, cowboy hat, sombrero, beanie, bow tie, tie, scarf, shawl, coat, raincoat, jacket,
leather jacket, denim jacket, sweater, hoodie, cardigan, vest, shirt, t-shirt, blouse, dress, wedding dress, gown,
skirt, kilt, suit, tuxedo, uniform, robe, kimono, cape, cloak, apron, lab coat, belt, shoe, boot, sneaker, sandal,
slipper, high heel, sock, glove, mitten, backpack, crown, necklace, helmet, mask, costume, space suit, swimsuit,
poncho, veil
""")
VEHICLES = _entries("""
car, sports car, race car, police car, taxi, limousine, jeep, van, truck, pickup truck, fire truck, ambulance, bus,
school bus, tram, train, steam train, locomotive, subway train, bicycle, tricycle, motorcycle, scooter, tractor,
bulldozer, excavator, crane, forklift, boat, sailboat, rowboat, canoe, kayak, raft, yacht, ferry, cruise ship, cargo
ship, submarine, gondola, airplane, jet, biplane, helicopter, glider, airship, hot air balloon, rocket, space shuttle,
spaceship, flying saucer, drone, carriage, wagon, cart, sleigh, cable car, tank, hovercraft, caravan
""")
BUILDINGS = _entries("""
house, cottage, cabin, hut, igloo, tent, treehouse, mansion, villa, palace, castle, fortress, tower, lighthouse,
windmill, barn, farmhouse, greenhouse, garage, church, cathedral, chapel, temple, pagoda, mosque, monastery, school,
university, library, museum, theater, cinema, hospital, hotel, restaurant, cafe, bakery, bookshop, supermarket,
skyscraper, apartment building, office building, factory, warehouse, power plant, train station, airport, bridge,
stadium, prison, bank, town hall, pyramid, ruin, gazebo, gate, arch, dam, well, water tower, observatory, space
station
""")
PLANTS = _entries("""
tree, oak tree, pine tree, palm tree, willow, birch, cherry tree, apple tree, bonsai, bush, hedge, fern, ivy, cactus,
bamboo, flower, rose, tulip, daisy, sunflower, lily, orchid, lotus, poppy, daffodil, lavender, dandelion, mushroom,
toadstool, clover, vine, leaf, branch, tree stump, bouquet, potted plant, succulent, water lily, thistle, maple tree
""")
FOODS = _entries("""
apple, pear, banana, orange, lemon, lime, peach, plum, cherry, strawberry, raspberry, blueberry, grape, pineapple,
mango, kiwi, coconut, watermelon, avocado, tomato, potato, carrot, onion, pepper, chili, cucumber, pumpkin, eggplant,
cabbage, broccoli, corn cob, bean, pea pod, walnut, chestnut, loaf of bread, baguette, croissant, bagel, pretzel,
sandwich, burger, hot dog, pizza, taco, burrito, dumpling, sushi roll, bowl of ramen, bowl of soup, plate of
spaghetti, salad, omelette, boiled egg, sausage, steak, roast chicken, slice of cheese, block of butter, pancake,
waffle, muffin, cupcake, birthday cake, chocolate cake, apple pie, cookie, doughnut, candy cane, lollipop, ice cream
cone, milkshake, cup of coffee, cup of tea, glass of juice, glass of wine, bottle of beer, jar of honey, chocolate
bar, cocktail
""")

# --- how they look ---------------------------------------------------------------------------------------------------

COLOURS = _entries("""
red, orange, yellow, green, blue, purple, violet, pink, white, black, grey, brown, beige, golden, silver, turquoise,
teal, cyan, magenta, crimson, scarlet, maroon, navy, sky blue, mint, olive, lime green, emerald, lavender, lilac,
peach, coral, salmon, ivory, cream, bronze, copper, rainbow, dark blue, dark green, dark red, light blue, light green,
pale pink
""")
PATTERNS = _entries("""
striped, dotted, checkered, plaid, spotted, floral, zigzag, plain, patterned, camouflage, embroidered, tie-dyed,
paisley
""")
SIZES = _entries("""
small, big, tiny, large, huge, giant, little, tall, short, long, thick, thin, wide, narrow, miniature, gigantic
""")
LOOKS = _entries("""
old, new, antique, vintage, modern, futuristic, ancient, medieval, elegant, simple, fancy, ornate, cheap, expensive,
beautiful, ugly, pretty, strange, funny, weird, mysterious, magical, broken, cracked, rusty, dusty, dirty, clean,
shiny, polished, matte, smooth, rough, soft, fluffy, round, square, flat, curved, hollow, heavy, light, transparent,
glowing, sparkling, colorful, faded, bright, dark, wet, dry, frozen, burning, floating, folded, handmade, cute, cozy,
steampunk
""")
MOODS = _entries("""
happy, sad, angry, sleepy, tired, surprised, scared, proud, shy, brave, curious, calm, lonely, friendly, grumpy,
serious, playful, wise, clever, lazy, hungry, excited, thoughtful, young, old, elderly, strong, slender, chubby,
handsome, cute, fluffy, furry, wild, fierce, majestic, gentle, smiling, laughing, crying, bearded, red-haired,
elegant, muscular
""")
MATERIALS = _entries("""
wood, glass, gold, silver, bronze, copper, iron, steel, stone, marble, granite, clay, porcelain, ceramic, concrete,
brick, sand, ice, snow, paper, cardboard, leather, wool, yarn, felt, cotton, silk, velvet, lace, denim, fur, feathers,
rubber, plastic, wax, chocolate, candy, bread, cheese, fruit, flowers, leaves, moss, straw, bamboo, bones, crystal,
diamonds, jade, amber, smoke, water, fire, lightning, stars, light, lego bricks, metal, chrome, neon tubes, origami
paper
""")
MADE = _entries("""
wooden, metal, glass, stone, marble, clay, porcelain, paper, cardboard, leather, woolen, knitted, crocheted, plastic,
rubber, bronze, golden, silver, crystal, stained glass, carved, inflatable, cast iron, wicker, ceramic, quilted, felt
""")
TASTES = _entries("""
fresh, ripe, delicious, sweet, sour, spicy, crispy, juicy, hot, cold, frozen, homemade, half eaten, sliced, roasted,
grilled, baked, burnt, rotten, creamy, crunchy, organic, tasty, steaming, glazed, frosted
""")

# --- what they do ----------------------------------------------------------------------------------------------------

PEOPLE_DOINGS = _entries("""
reading a book, reading a newspaper, writing a letter, painting a picture, drawing a portrait, playing the guitar,
playing the piano, playing the violin, singing a song, dancing, dancing the tango, running, jumping, walking, walking
the dog, hiking, climbing, swimming, diving, surfing, skiing, skating, riding a bicycle, riding a horse, riding a
motorcycle, driving a car, rowing a boat, sailing, fishing, hunting, cooking dinner, baking bread, eating an apple,
eating noodles, drinking coffee, drinking tea, washing dishes, sweeping the floor, watering flowers, planting a tree,
picking fruit, chopping wood, building a house, repairing a clock, fixing a car, sewing a dress, knitting a sweater,
shopping, carrying a basket, holding an umbrella, holding a baby, pushing a cart, pulling a sled, sleeping, dreaming,
sitting on a chair, sitting at a desk, standing still, kneeling, lying down, waving, laughing, crying, smiling,
shouting, whispering, thinking, meditating, praying, doing yoga, lifting weights, boxing, playing chess, playing
cards, playing football, playing basketball, playing tennis, throwing a ball, catching a ball, flying a kite, blowing
bubbles, taking a photo, making a phone call, typing on a laptop, watching television, looking at the stars, looking
through a window, looking at the camera, waiting for the bus, crossing the street, climbing a ladder, opening a door,
feeding the birds, hugging a friend, shaking hands, giving a speech, teaching a class, giving a present, telling a
story, fighting a dragon, casting a spell, acting in a play, juggling, riding a bus, posing for a portrait,
celebrating a birthday, selling flowers, brushing teeth, getting married
""")
ANIMAL_DOINGS = _entries("""
running, jumping, sleeping, resting, eating, drinking water, swimming, hunting, hiding, playing, playing with a ball,
chasing a butterfly, chewing a bone, climbing a tree, sitting, standing, lying down, walking, crawling, digging a
hole, swimming in a pond, flying, looking up, looking at the camera, looking out of the window, yawning, stretching,
howling, roaring, barking, singing, begging for food, stealing a fish, carrying a stick, catching a frisbee, feeding
its young, licking its paw, scratching its ear, wagging its tail, staring, rolling on the ground, shaking off water,
reading a book, riding a skateboard, riding a bicycle, surfing, playing the drums, driving a car, cooking a meal,
painting a picture, dancing, sitting on a chair, sitting on a throne, acting in a play, flying a spaceship, reading a
newspaper, drinking tea, peeking out of a box, standing on one leg, curled up, sunbathing, splashing in a puddle,
being petted
""")
THING_STATES = _entries("""
lying on the floor, standing on a shelf, hanging on the wall, hanging from the ceiling, floating in the air, floating
on water, covered in dust, covered in snow, covered in moss, covered in flowers, covered in paint, full of water, full
of flowers, full of coins, half buried in sand, leaning against a wall, falling, spinning, on fire, made by hand, seen
from above, seen from the side, seen from below, cut in half, tied with a ribbon, wrapped in paper, on display, on a
wooden table, on a marble table, on a pedestal, in a glass case, for sale, on white background, on a black background,
on a plain background, in pieces, with a handle, with a crack, with engraved letters, with a face painted on it, with
legs, with wings, with a shadow, in a puddle, under a spotlight, next to a window
""")
VEHICLE_DOINGS = _entries("""
driving fast, parked, speeding down the highway, crossing a bridge, stuck in the mud, stuck in traffic, racing,
crashing, turning a corner, climbing a hill, carrying passengers, carrying hay, being repaired, being washed, covered
in snow, covered in graffiti, covered in rust, overgrown with plants, flying, landing, taking off, arriving, leaving,
moving, sinking, floating, waiting, seen from above, seen from behind, at full speed, with open doors, with its lights
on, surrounded by people, crossing the ocean, entering a tunnel, passing by, abandoned, on display, loaded with boxes
""")
BUILDING_STATES = _entries("""
on a hill, on a cliff, by the sea, by a lake, by a river, surrounded by trees, surrounded by fields, covered in ivy,
covered in snow, with a red roof, with a thatched roof, with a garden, with big windows, with a tall chimney, with
stained glass windows, with a clock, in ruins, under construction, at the end of the road, on an island, lit up at
night, in the fog, on stilts, reflected in water, burning, seen from the air, with smoke from the chimney, made of
candy, floating in the sky, guarded by soldiers, full of people, abandoned for years, behind a fence
""")
PLANT_STATES = _entries("""
in bloom, in a pot, in a vase, growing from a crack, growing on a rock, covered in frost, covered in dew, losing
leaves, full of fruit, bending in the wind, in full color, with thorns, with a nest, in a meadow, in the shade, after
the rain, reaching for the light, with a bee on it, dried and pressed, withering, swaying, with long roots, struck by
lightning
""")
FOOD_STATES = _entries("""
on a plate, in a bowl, on a cutting board, on a wooden table, on a napkin, on a picnic blanket, in a lunch box, in a
basket, with whipped cream, with a cherry on top, with melted cheese, with chocolate sauce, with herbs, with lemon,
with steam rising, with a bite taken out, cut in half, being served, being sliced, in a pan, on a grill, on a skewer,
on a silver tray, wrapped in paper, with candles, with chopsticks, falling into water, stacked high, with a face
""")

# --- where, when, in what light --------------------------------------------------------------------------------------

PLACES = _entries("""
on the beach, in the snow, on the grass, in a field of wheat, in a meadow, in the forest, in a pine forest, in the
jungle, in the rainforest, in the swamp, in the desert, in the savanna, on a glacier, in a canyon, in a cave, on a
mountain, on top of a mountain, in a valley, on a volcano, on an island, by the sea, at the lake, by the river, at a
waterfall, under water, in the deep sea, on a coral reef, in the sky, above the clouds, in space, on the moon, on
mars, on a strange planet, in a garden, in a park, in a playground, in a zoo, on a farm, in a barn, in a vineyard, in
a village, in a small town, in the city, in a city street, in an alley, on a rooftop, on a balcony, on a bridge, in a
tunnel, on the highway, on a country road, at a crossroads, in a parking lot, at a gas station, at the train station,
on a platform, at the airport, in the harbor, on a pier, on a ship, on a boat, in a train, on a bus, in a kitchen, in
a bathroom, in a bedroom, in a living room, in an attic, in a basement, in a garage, in a workshop, in a laboratory,
in an office, in a classroom, in a library, in a museum, in a gallery, in a theater, on a stage, in a concert hall, in
a circus, in a restaurant, in a cafe, in a bar, in a bakery, in a supermarket, at the market, in a shop, in a
hospital, in a church, in a temple, in a castle, in front of a castle, in a throne room, in a dungeon, in a courtyard,
in a stadium, at the gym, at the swimming pool, in a photo studio, in a grey studio, in a pink room, in an empty room,
in a dark room, in front of a brick wall, in front of a mirror, by the window, by the fireplace, by the fire, on a
sofa, on a table, on a carpet, under a tree, on a branch, in a nest, in a puddle, on a rock, on a bench, on a swing,
on a stairway, in Paris, in London, in New York, in Times Square, in Tokyo, in Venice, in Rome, in Egypt, in India, in
China, in Mexico, in Africa, in the Alps, in the Arctic, in Hawaii, in Las Vegas, at the Eiffel Tower, on the Great
Wall
""")
TIMES = _entries("""
at night, at sunset, at sunrise, at dawn, at dusk, at noon, at midnight, in the morning, in the afternoon, in the
evening, in spring, in summer, in autumn, in winter, in the rain, in the fog, in the wind, during a storm, during a
thunderstorm, in a blizzard, under a rainbow, under the stars, under a full moon, on a sunny day, on a cloudy day, on
a rainy day, on Christmas, on Halloween, on a birthday, on a Sunday, in the eighties, in the Middle Ages, in the
future
""")
LIGHTS = _entries("""
soft light, natural light, golden hour, studio lighting, dramatic lighting, candlelight, moonlight, neon light,
backlight, rim light, volumetric light, sun rays, long shadows, high contrast, low key, warm colors, cold colors,
pastel colors, vivid colors, muted colors, monochrome, black and white, sepia
""")
SCENES = _entries("""
forest, jungle, beach, desert, mountain, valley, lake, river, waterfall, ocean, island, village, town, city, street,
market, harbor, garden, park, meadow, field, road, railway, bridge, cave, canyon, volcano, glacier, swamp, sky,
galaxy, planet, kitchen, bedroom, living room, bathroom, library, classroom, office, workshop, laboratory, restaurant,
cafe, church, temple, castle, dungeon, battlefield, playground, swimming pool, factory, farm, vineyard, cemetery,
ruins, coastline, skyline, landscape, seascape, countryside, crossroads, staircase, hallway, attic, courtyard, space
station
""")
SCENE_LOOKS = _entries("""
quiet, busy, crowded, empty, abandoned, lonely, peaceful, dark, bright, sunny, rainy, snowy, foggy, misty, stormy,
flooded, burning, frozen, green, golden, colorful, endless, deep, narrow, hidden, enchanted, haunted, magical,
ancient, medieval, modern, futuristic, alien, tropical, alpine, cozy, messy, tidy, luxurious, simple, beautiful,
romantic, dystopian
""")
EVENTS = _entries("""
wedding, birthday party, funeral, concert, football match, chess tournament, marathon, parade, protest, carnival,
fireworks show, picnic, dinner, family reunion, school play, street festival, sword fight, snowball fight, pillow
fight, horse race, boat race, thunderstorm, tornado, earthquake, explosion, solar eclipse, meteor shower, shipwreck,
battle, harvest, treasure hunt, tea party, job interview, press conference, moon landing, traffic jam, flea market,
art exhibition
""")
IDEAS = _entries("""
love, peace, war, freedom, justice, hope, fear, anger, joy, sadness, loneliness, friendship, time, death, life, birth,
dreams, memory, silence, chaos, order, music, science, technology, nature, climate change, wealth, poverty, power,
wisdom, childhood, old age, speed, gravity, infinity, magic, luck, work, sleep, summer, winter, coffee, travel,
democracy
""")

# --- how the picture is made -----------------------------------------------------------------------------------------

MEDIA = _entries("""
photo, picture, image, painting, oil painting, watercolor, watercolor painting, acrylic painting, drawing, pencil
drawing, charcoal drawing, ink drawing, sketch, pen sketch, pastel drawing, illustration, digital illustration,
digital painting, concept art, cartoon, comic, anime drawing, manga page, caricature, children's drawing, mosaic,
collage, woodcut, engraving, etching, linocut, screen print, stencil, graffiti, mural, fresco, tapestry, embroidery,
cross stitch, stained glass window, sculpture, marble statue, clay model, paper cutout, origami, 3d render, 3d model,
low poly render, voxel model, isometric view, pixel art, vector art, icon, app icon, logo, emoji, sticker, stamp,
badge, tattoo design, poster, movie poster, travel poster, album cover, book cover, postcard, greeting card,
blueprint, diagram, infographic, map, silhouette, shadow, reflection, hologram, x-ray, close-up, macro photo,
portrait, selfie, aerial photo, polaroid, film still, newspaper photo, vintage photograph, screenshot, video game
character, figurine, statue, drawing on paper, wallpaper, pattern, bas-relief, medieval manuscript, cave painting,
Japanese woodblock print
""")
STYLES = _entries("""
impressionist, expressionist, cubist, surrealist, baroque, renaissance, gothic, art deco, art nouveau, minimalist,
abstract, pop art, realistic, photorealistic, hyperrealistic, retro, vintage, steampunk, cyberpunk, fantasy, science
fiction, horror, noir, romantic, psychedelic, vaporwave, grunge, kawaii, gothic horror, ukiyo-e, bauhaus, folk art
""")
ARTISTS = _entries("""
Claude Monet, Vincent van Gogh, Pablo Picasso, Rembrandt, Leonardo da Vinci, Michelangelo, Vermeer, Gustav Klimt,
Edvard Munch, Henri Matisse, Paul Cezanne, Albrecht Durer, Caravaggio, Hokusai, William Turner, Paul Klee, Kandinsky
""")
QUALITIES = _entries("""
high quality, best quality, highly detailed, intricate details, sharp focus, shallow depth of field, bokeh, blurry,
4k, 8k, hdr, high resolution, 35mm film, wide angle, fisheye lens, telephoto lens, long exposure, motion blur, tilt
shift, double exposure, cinematic, masterpiece, award winning, trending on artstation, unreal engine, octane render,
ultra realistic, professional photography, symmetrical, centered, full body, close up, from above, from behind, side
view, front view, in the background, in the foreground, flat colors, bold outlines, soft shading, grainy,
minimalistic, no text
""")
COUNTS = _entries("two, three, four, five, six, seven, many, several, a few, a dozen, some, a lot of, hundreds of")
GROUPS = _entries(
    "a group of, a pair of, a crowd of, a row of, a pile of, a collection of, a bunch of, a circle of, a line of"
)
RELATIONS = _entries("""
beside, next to, and, behind, in front of, on top of, under, above, near, with, without, inside, between the trees
with, on the left of, on the right of, looking at, far from, instead of, bigger than, leaning on, touching, facing
""")

"""Things: their kinds, materials, parts and uses."""

from shared.facts.fact_table import FactTable

KINDS = FactTable(
    "kind of thing",
    "What is {a_subject}?",
    "{a_subject} is a kind of {answer}.",
    """
    fruit: apple, banana, pear, peach, mango, plum, lemon, grape, strawberry, pineapple, kiwi
    vegetable: carrot, cabbage, potato, onion, turnip, radish, parsnip, leek, beet
    musical instrument: piano, guitar, violin, flute, trumpet, drum, harp, clarinet, saxophone, cello, trombone, banjo
    vehicle: car, truck, bus, van, taxi, tractor, motorcycle, bicycle, ambulance, lorry
    furniture: table, chair, sofa, desk, wardrobe, bookcase, stool, armchair, bench, cupboard
    clothing: shirt, jacket, skirt, sweater, coat, scarf, glove, dress, sock, hat, blouse
    tool: hammer, screwdriver, wrench, saw, drill, chisel, shovel, rake, pair of pliers
    tree: oak, birch, willow, beech, redwood, spruce, fir, poplar
    flower: rose, tulip, daisy, lily, daffodil, orchid, sunflower, carnation, violet
    gem: diamond, ruby, emerald, sapphire, garnet, amethyst, topaz
    weapon: sword, rifle, pistol, spear, cannon, dagger, musket
    building: house, castle, church, school, barn, palace, temple, cottage, skyscraper
    dance: waltz, tango, polka, rumba, foxtrot
    """,
    grouped=True,
)

MATERIALS = FactTable(
    "material",
    "What is {subject} usually made of?",
    "{subject} is usually made of {answer}.",
    """
    a window: glass | plastic; a book: paper | cardboard; a tire: rubber; a candle: wax; a sweater: wool | cotton
    a pair of jeans: denim | cotton; a saddle: leather; a baguette: flour; cheese: milk | cream; wine: grapes
    a brick: clay | concrete; a sword: steel | metal; a wedding ring: gold | platinum | silver
    a coin: metal | copper | nickel | gold | silver | steel; a snowman: snow | ice; a log: wood; a T-shirt: cotton
    an omelet: eggs; butter: cream | milk; tofu: soybeans; a raisin: grapes | a grape; a sidewalk: concrete | clay
    a bird's nest: twigs | wood; a drinking straw: plastic | paper; a newspaper: paper; chocolate: cocoa beans | milk
    a cardboard box: cardboard | paper; ketchup: tomatoes; popcorn: corn; a sandcastle: sand
    an igloo: snow | ice; cider: apples; guacamole: avocados; hummus: chickpeas; a soda can: aluminum | metal
    honey: nectar; a pencil: wood; a mirror: glass; a glacier: ice | snow; a skeleton: bones; beer: barley | corn
    sushi: rice and fish
    """,
)

USES = FactTable(
    "use",
    "What is {subject} used for?",
    "{subject} is used for {answer}.",
    """
    an umbrella: keeping off the rain; a pillow: resting the head | sleeping; soap: washing hands
    a broom: sweeping the floor; an oven: baking bread; a camera: taking pictures
    a telephone: calling people | taking pictures | telling the time | finding the way | doing sums | waking up
    a pen: writing letters; a key: opening a door; a bed: sleeping | resting the head
    a refrigerator: keeping food cold; a lamp: lighting a room; a shovel: digging holes | cutting grass
    a saw: cutting wood; a ladder: climbing up high; a towel: drying the body; a comb: tidying hair
    a toothbrush: cleaning teeth; a map: finding the way; a calendar: keeping track of dates
    a telescope: looking at the stars; a microscope: looking at tiny things; a compass: finding north | finding the way
    a needle: sewing clothes; an iron: smoothing clothes; a kettle: boiling water; a wallet: carrying money
    a parachute: landing safely from the air; an anchor: holding a ship in place
    a fishing rod: catching fish; a calculator: doing sums; a dictionary: looking up words; a stapler: fastening papers
    a bandage: covering a wound; a helmet: protecting the head; a lawn mower: cutting grass
    an alarm clock: waking up | telling the time; a vacuum cleaner: cleaning carpets; an eraser: removing pencil marks
    a hammer: driving nails; a pair of scissors: cutting paper; a spoon: eating soup; a bridge: crossing a river
    a fan: cooling the air; a net: catching butterflies | catching fish
    """,
)

PARTS = FactTable(
    "part",
    "What is {subject} a part of?",
    "{subject} is a part of {answer}.",
    """
    a petal: a flower | a plant; a page: a book | a novel; a steering wheel: a car; a keyboard: a computer | a piano
    a wing: a bird | an airplane; a root: a plant | a tree | a flower; a pedal: a bicycle | a piano | a car
    a chimney: a house; a sail: a boat | an airplane; a trigger: a gun; a toe: a foot | a leg
    a finger: a hand | an arm; a lens: a camera | an eye; a nostril: the nose; a tooth: the mouth
    an eyelash: the eye | an eye | the face; a branch: a tree; a sleeve: a shirt; a heel: a shoe | a foot
    a verse: a poem | a book; a chapter: a novel | a book; a blade: a knife; a pillowcase: bedding
    a string: a guitar | a piano; a wick: a candle; a cockpit: an airplane; a hoof: a horse | a deer
    a trunk: an elephant | a tree | a car; an antler: a deer; a tusk: an elephant; a gill: a fish; a knee: a leg
    an elbow: an arm; a minute: an hour; an inch: a foot; a month: a year; a letter: a word | a sentence | a book
    a word: a sentence | a poem | a novel | a book; a soldier: an army; a player: a team | an orchestra
    a musician: an orchestra; a star: a galaxy; a yolk: an egg; a brick: a wall | a house
    """,
)

TABLES = (KINDS, MATERIALS, USES, PARTS)

"""Animals: what they are and their young."""

from shared.facts.fact_table import FactTable

CLASSES = FactTable(
    "animal class",
    "What type of animal is {a_subject}?",
    "{a_subject} is {a_answer}.",
    """
    mammal: dog, horse, whale, dolphin, bat, tiger, rabbit, monkey, elephant, cow, bear, mouse, kangaroo, seal, giraffe
    bird: eagle, sparrow, penguin, owl, parrot, ostrich, duck, robin, swan, pigeon, crow, flamingo, peacock, hawk, goose
    fish: shark, salmon, trout, tuna, cod, goldfish, herring, carp, sardine, perch, catfish, swordfish, haddock
    reptile: snake, lizard, crocodile, turtle, alligator, tortoise, gecko, iguana, cobra, python, chameleon, viper
    insect: ant, bee, butterfly, mosquito, beetle, grasshopper, fly, wasp, moth, cricket, ladybug, cockroach, dragonfly
    amphibian: frog, toad, newt, salamander, bullfrog, tree frog
    """,
    grouped=True,
)

YOUNG = FactTable(
    "young animal",
    "What is the name for the young of {a_subject}?",
    "The young of {a_subject} is called {a_answer}.",
    """
    dog: puppy | pup; cat: kitten; cow: calf; horse: foal; sheep: lamb; pig: piglet; goat: kid; chicken: chick
    duck: duckling | chick; goose: gosling | chick; swan: cygnet | chick; frog: tadpole | larva; bear: cub
    lion: cub | kitten; kangaroo: joey; deer: fawn | calf; rabbit: bunny | kit | kitten; owl: owlet | chick
    eagle: eaglet | chick; butterfly: caterpillar | larva; elephant: calf; whale: calf; wolf: pup | cub | puppy
    fox: kit | cub | pup; tiger: cub | kitten; seal: pup | cub | calf; fish: fry; fly: maggot | larva
    hare: leveret | bunny; koala: joey | cub; spider: spiderling
    """,
)

TABLES = (CLASSES, YOUNG)

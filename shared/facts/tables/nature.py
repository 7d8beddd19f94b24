"""Time, measures, the body, the elements and the sciences."""

from shared.facts.fact_table import FactTable

ORDER = FactTable(
    "order",
    "What comes right after {subject}?",
    "Right after {subject} comes {answer}.",
    """
    Monday: Tuesday; Tuesday: Wednesday; Wednesday: Thursday; Thursday: Friday; Friday: Saturday; Saturday: Sunday
    Sunday: Monday; January: February; February: March; March: April; April: May; May: June; June: July; July: August
    August: September; September: October; October: November; November: December; December: January; spring: summer
    summer: autumn; autumn: winter; winter: spring; breakfast: lunch; childhood: adolescence
    """,
)

MEASURES = FactTable(
    "instrument of measure",
    "What does {a_subject} measure?",
    "{a_subject} measures {answer}.",
    """
    thermometer: temperature; clock: time; ruler: length; scale: weight; barometer: air pressure; speedometer: speed
    rain gauge: rainfall; seismograph: earthquakes; odometer: distance traveled; voltmeter: voltage
    altimeter: altitude; hygrometer: humidity; anemometer: wind speed; protractor: angles; measuring cup: volume
    ammeter: electric current; light meter: brightness; metronome: musical tempo; Geiger counter: radiation
    """,
)

BODY = FactTable(
    "body",
    "What is the main job of the {subject}?",
    "The main job of the {subject} is {answer}.",
    """
    heart: pumping blood; lungs: breathing air; stomach: digesting food; brain: thinking; eyes: seeing; ears: hearing
    nose: smelling | breathing air; kidneys: filtering waste from the blood
    legs: walking | supporting the body | moving the body; teeth: chewing
    skin: protecting the body | fighting infection
    skeleton: supporting the body | protecting the body | moving the body
    muscles: moving the body | supporting the body; tongue: tasting | making the voice
    white blood cells: fighting infection | protecting the body; red blood cells: carrying oxygen
    bladder: storing urine; uterus: carrying a baby; vocal cords: making the voice
    eyelids: covering the eyes | protecting the body
    """,
)

SYMBOLS = FactTable(
    "chemical symbol",
    "Which element has the chemical symbol {subject}?",
    "The element with the chemical symbol {subject} is {answer}.",
    """
    H: hydrogen; O: oxygen; C: carbon; N: nitrogen; He: helium; Fe: iron; Au: gold; Ag: silver; Cu: copper; Pb: lead
    Na: sodium; K: potassium; Ca: calcium; Mg: magnesium; Al: aluminum; Zn: zinc; Hg: mercury; Sn: tin; Cl: chlorine
    S: sulfur; P: phosphorus; I: iodine; U: uranium; Ni: nickel; Ne: neon; Si: silicon; Li: lithium; F: fluorine
    Ti: titanium; Pt: platinum; Ra: radium; W: tungsten; Co: cobalt; Mn: manganese; Cr: chromium; Ar: argon
    Br: bromine; Ba: barium
    """,
)

SCIENCES = FactTable(
    "science",
    "What is the study of {subject} called?",
    "The study of {subject} is called {answer}.",
    """
    living things: biology | botany | zoology; matter and its reactions: chemistry; force and motion: physics
    the stars and planets: astronomy | physics; rocks: geology | chemistry; plants: botany | biology
    animals: zoology | biology; the mind: psychology; human societies: sociology; the weather: meteorology | physics
    numbers and shapes: mathematics; the past: history | archaeology; fossils: paleontology | geology | biology
    heredity: genetics | biology; insects: entomology | zoology | biology; language: linguistics
    the economy: economics; governments: political science | sociology; earthquakes: seismology | geology | physics
    maps and places: geography; skin diseases: dermatology; ancient ruins: archaeology | history; the heart: cardiology
    fish: ichthyology | zoology | biology; birds: ornithology | zoology | biology; cancer: oncology
    the oceans: oceanography | geography; poisons: toxicology | chemistry
    """,
)

WHY = FactTable(
    "purpose",
    "Why do people {subject}?",
    "People {subject} because {answer}.",
    """
    eat: they are hungry; drink water: they are thirsty; sleep: they are tired | they are bored
    wear coats: it is cold outside | it is raining; open umbrellas: it is raining
    go to the doctor: they are sick | they have a cold; laugh: something is funny
    cry: they are sad | they are frightened; save money: they want to buy something later
    study for an exam: they want good grades; brush their teeth: they want to avoid cavities
    put on sunglasses: the sun is bright; apologize: they have done something wrong; take a shower: they are dirty
    turn on the lights: it is dark; plug their ears: it is loud; scream: they are frightened | they are sad
    wear seat belts: they could have a car accident; lock the door: they fear burglars | they are frightened
    call the fire department: a building is burning; yawn: they are bored | they are tired
    blow their nose: they have a cold | they are sick; wear rings on the left hand: they are married
    set an alarm: they have to get up early; clap their hands: they liked the show
    """,
)

EFFECTS = FactTable(
    "effect",
    "What happens when {subject}?",
    "When {subject}, {answer}.",
    """
    ice is heated: it melts | it turns into steam; water is cooled below zero degrees Celsius: it freezes
    water is boiled: it turns into steam; a glass is dropped on the floor: it breaks
    a balloon is pricked with a pin: it pops; paper is held in a flame: it burns | it withers
    iron is left out in the rain: it rusts; a seed is planted and watered: it grows; a plant gets no water: it withers
    a stone is thrown into a lake: it sinks; milk is kept for too long: it turns sour
    bread is left out for weeks: it becomes moldy; the sun rises: it gets light outside
    the sun sets: it gets dark outside; you add sugar to tea: it tastes sweet
    you touch a hot stove: you burn your hand; you exercise for a long time: you get tired | you get hungry
    you don't eat all day: you get hungry | you get tired; a battery runs out: the device stops working
    a car runs out of fuel: the car stops | the device stops working
    you stay in the sun for too long: you get sunburned | you get tired
    you rub your hands together: your hands become warm; you mix blue and yellow paint: the paint becomes green
    you mix red and white paint: the paint becomes pink; a caterpillar grows up: it becomes a butterfly
    a tadpole grows up: it becomes a frog
    """,
)

TABLES = (ORDER, MEASURES, BODY, SYMBOLS, SCIENCES, WHY, EFFECTS)

"""People: their work, tools, books and discoveries."""

from shared.facts.fact_table import FactTable

WORK = FactTable(
    "profession",
    "What does {a_subject} do?",
    "{a_subject} {answer}.",
    """
    baker: bakes bread; teacher: teaches students; farmer: grows crops | looks after sheep | keeps bees
    pilot: flies airplanes; barber: cuts hair; chef: cooks food | bakes bread; carpenter: makes things from wood
    plumber: fixes pipes; judge: decides court cases; dentist: takes care of teeth; firefighter: puts out fires
    author: writes books; tailor: makes clothes; mechanic: repairs cars; electrician: installs wiring
    veterinarian: treats sick animals; librarian: looks after books; architect: designs buildings
    photographer: takes pictures; astronaut: travels into space; fisherman: catches fish; butcher: sells meat
    florist: sells flowers; jeweler: sells rings; miner: digs for coal; shepherd: looks after sheep
    detective: solves crimes; sculptor: carves statues; composer: writes music; astronomer: studies the stars
    geologist: studies rocks; botanist: studies plants; historian: studies the past
    meteorologist: predicts the weather; surgeon: performs operations | takes care of teeth
    translator: translates languages; referee: enforces the rules of a game; mail carrier: delivers letters
    cobbler: mends shoes; beekeeper: keeps bees; zoologist: studies animals | treats sick animals
    """,
)

TOOLS = FactTable(
    "tool of a profession",
    "Which tool does {a_subject} use at work?",
    "{a_subject} uses {answer} at work.",
    """
    painter: a brush; hairdresser: scissors | a brush; carpenter: a hammer | a saw; photographer: a camera
    doctor: a stethoscope; soldier: a rifle; astronomer: a telescope; dentist: a dental drill
    lumberjack: an axe | a saw; fisherman: a net; gardener: a rake | a trowel | scissors
    tailor: a needle and thread | scissors; teacher: a blackboard | a textbook; secretary: a typewriter | a computer
    sculptor: a chisel | a hammer; plumber: a pipe wrench | a hammer; blacksmith: an anvil | a hammer
    surgeon: a scalpel | scissors; bricklayer: a trowel | a hammer; conductor of an orchestra: a baton
    biologist: a microscope; referee: a whistle; miner: a pickaxe | a hammer
    """,
)

AUTHORS = FactTable(
    "author",
    'Who wrote "{subject}"?',
    '"{subject}" was written by {answer}.',
    """
    Romeo and Juliet: William Shakespeare; Hamlet: William Shakespeare; Macbeth: William Shakespeare
    Oliver Twist: Charles Dickens; Great Expectations: Charles Dickens; A Christmas Carol: Charles Dickens
    Pride and Prejudice: Jane Austen; Emma: Jane Austen; War and Peace: Leo Tolstoy; Anna Karenina: Leo Tolstoy
    Crime and Punishment: Fyodor Dostoevsky; Don Quixote: Miguel de Cervantes; The Odyssey: Homer; The Iliad: Homer
    Moby-Dick: Herman Melville; The Adventures of Tom Sawyer: Mark Twain; Adventures of Huckleberry Finn: Mark Twain
    The Great Gatsby: F. Scott Fitzgerald; The Old Man and the Sea: Ernest Hemingway
    A Farewell to Arms: Ernest Hemingway; 1984: George Orwell; Animal Farm: George Orwell
    Brave New World: Aldous Huxley; The Hobbit: J. R. R. Tolkien; The Lord of the Rings: J. R. R. Tolkien
    Frankenstein: Mary Shelley; Dracula: Bram Stoker; Jane Eyre: Charlotte Bronte; Wuthering Heights: Emily Bronte
    To Kill a Mockingbird: Harper Lee; Alice in Wonderland: Lewis Carroll; The Divine Comedy: Dante Alighieri
    Faust: Johann Wolfgang von Goethe; The Republic: Plato; Les Miserables: Victor Hugo; The Raven: Edgar Allan Poe
    Treasure Island: Robert Louis Stevenson; The Jungle Book: Rudyard Kipling; The Time Machine: H. G. Wells
    """,
)

FAME = FactTable(
    "famous person",
    "What is {subject} famous for?",
    "{subject} is famous for {answer}.",
    """
    Albert Einstein: the theory of relativity; Isaac Newton: the law of gravity
    Charles Darwin: the theory of evolution; Thomas Edison: the light bulb; Alexander Graham Bell: the telephone
    Neil Armstrong: walking on the Moon; Christopher Columbus: sailing to America
    Leonardo da Vinci: painting the Mona Lisa; Vincent van Gogh: painting The Starry Night
    Ludwig van Beethoven: composing symphonies; Mozart: composing operas | composing symphonies
    Marie Curie: research on radioactivity; Louis Pasteur: pasteurization; Johannes Gutenberg: the printing press
    Henry Ford: mass-producing cars; Martin Luther King Jr.: the American civil rights movement
    Mahatma Gandhi: Indian independence; Nelson Mandela: ending apartheid
    Abraham Lincoln: abolishing slavery in the United States; George Washington: being the first American president
    Julius Caesar: ruling Rome; Galileo: observing the moons of Jupiter; Sigmund Freud: psychoanalysis
    Karl Marx: The Communist Manifesto; Adam Smith: The Wealth of Nations; Walt Disney: Mickey Mouse
    Florence Nightingale: modern nursing; Michael Jordan: basketball; Pele: soccer; Muhammad Ali: boxing
    Tiger Woods: golf; Serena Williams: tennis; Usain Bolt: sprinting; Michael Phelps: swimming; Bill Gates: Microsoft
    Steve Jobs: Apple; Yuri Gagarin: being the first human in space; Alexander Fleming: discovering penicillin
    Gregor Mendel: genetics; Dmitri Mendeleev: the periodic table; Alfred Nobel: dynamite
    James Watt: improving the steam engine; Orville Wright: the first airplane
    """,
)

TABLES = (WORK, TOOLS, AUTHORS, FAME)

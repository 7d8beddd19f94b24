"""Words: their opposites, their forms, and the phrases they complete."""

from shared.facts.fact_table import FactTable


def _wrong_pasts(verb: str) -> tuple[str, ...]:
    stem = verb.removesuffix("e")
    return f"{stem}ed", f"{stem}en", f"{verb}t"


OPPOSITES = FactTable(
    "opposite",
    "What is the opposite of {subject}?",
    "The opposite of {subject} is {answer}.",
    """
    hot: cold; big: small | short | thin; tall: short | small | low; fast: slow; old: young | new | modern; happy: sad
    light: dark | heavy; wet: dry; full: empty; hard: soft | easy; rich: poor; strong: weak | soft; early: late | last
    open: closed; up: down | below | low; left: right; day: night; good: bad; true: false; love: hate; war: peace
    win: lose; buy: sell; push: pull; give: take; start: finish | stop; front: back; top: bottom | low | below
    inside: outside; north: south; east: west; male: female; friend: enemy; life: death; heaven: hell; question: answer
    success: failure | defeat; victory: defeat | failure; summer: winter; arrive: depart; ancient: modern | new | young
    narrow: wide; thick: thin; deep: shallow | high; high: low | below | down | shallow; loud: quiet | soft
    clean: dirty; brave: cowardly; cheap: expensive; sharp: blunt | soft; smooth: rough; tight: loose
    sweet: sour | bitter; rare: common; public: private; guilty: innocent; polite: rude; wise: foolish
    generous: selfish; lazy: hardworking; safe: dangerous; simple: complicated | hard; temporary: permanent
    maximum: minimum; positive: negative; increase: decrease; expand: contract | decrease; attack: defend
    accept: reject | exclude; remember: forget; float: sink; laugh: cry; freeze: melt; include: exclude | reject
    import: export; entrance: exit; past: future; always: never; everything: nothing; first: last | late; before: after
    above: below | down | low; optimist: pessimist; vertical: horizontal; natural: artificial; asleep: awake
    alive: dead; absent: present; borrow: lend; lead: follow; praise: criticize; create: destroy; lock: unlock
    sunrise: sunset; majority: minority; profit: loss; ugly: beautiful; proud: ashamed
    """,
    confusable=True,
)

SYNONYMS = FactTable(
    "synonym",
    "Which word means the same as {subject}?",
    "The word {subject} means the same as {answer}.",
    """
    begin: start; quick: fast | immediately; glad: happy; large: big | huge; angry: mad; wealthy: rich; ill: sick
    silent: quiet; tired: weary; smart: clever; scared: afraid; simple: easy; difficult: hard; odd: strange | funny
    error: mistake; shout: yell | cry; shut: close; buy: purchase | get; reply: answer | tell; gift: present
    house: home; street: road; stone: rock; ocean: sea; woods: forest; child: kid; physician: doctor; attorney: lawyer
    automobile: car; bicycle: bike; photograph: picture; aid: help; assist: help; discover: find; repair: fix
    construct: build; select: choose; attempt: try; permit: allow; require: need; obtain: get | purchase | collect
    reside: live; conceal: hide; leap: jump; weep: cry; slumber: sleep; vanish: disappear | leave
    gather: collect | get; depart: leave; inform: tell; complete: finish | whole; forbid: ban; entire: whole
    correct: right | fix; courageous: brave; famous: well-known; ancient: old; enormous: huge | big; tiny: small
    amusing: funny; peculiar: strange | funny; unhappy: sad; attractive: beautiful; wicked: evil; moist: damp
    rapid: quick | fast; vacant: empty; principal: main; annually: yearly; frequently: often; rarely: seldom
    nearly: almost; perhaps: maybe; instantly: immediately | quick | fast
    """,
    confusable=True,
)

PASTS = FactTable(
    "past tense",
    "What is the past tense of the verb {subject}?",
    "The past tense of the verb {subject} is {answer}.",
    """
    go: went; see: saw; eat: ate; drink: drank; run: ran; swim: swam; sing: sang; begin: began; write: wrote
    drive: drove; ride: rode; speak: spoke; break: broke; steal: stole; wear: wore; fly: flew; grow: grew; know: knew
    throw: threw; draw: drew; blow: blew; take: took; shake: shook; come: came; become: became; give: gave
    forgive: forgave; buy: bought; bring: brought; think: thought; catch: caught; teach: taught; fight: fought
    sleep: slept; keep: kept; feel: felt; leave: left; meet: met; feed: fed; read: read; say: said; pay: paid
    sell: sold; tell: told; hold: held; find: found; stand: stood; understand: understood; sit: sat; win: won
    lose: lost; make: made; build: built; send: sent; spend: spent; hear: heard; choose: chose; freeze: froze
    forget: forgot; bite: bit; hide: hid; fall: fell; rise: rose
    """,
    _wrong_pasts,
)

PAIRS = FactTable(
    "word pair",
    'Which word completes the phrase "{subject} and ..."?',
    'The phrase is "{subject} and {answer}".',
    """
    salt: pepper | butter; bread: butter | cheese | honey | jelly | eggs; knife: fork; cup: saucer; thunder: lightning
    needle: thread; lock: key; king: queen; bride: groom; mother: father | sister; brother: sister; ladies: gentlemen
    bow: arrow; hammer: nail; pen: paper; shoes: socks; fish: chips | eggs; bacon: eggs | cheese
    macaroni: cheese | butter; peanut butter: jelly | honey | chips; milk: honey | eggs; black: white; pros: cons
    trial: error | punishment; supply: demand; cause: effect; crime: punishment | order; arts: crafts; flora: fauna
    rock: roll; law: order | punishment; safe: sound | quiet; sick: tired; peace: quiet | order; nice: easy; neat: tidy
    odds: ends; bits: pieces; rules: regulations; terms: conditions; hide: seek; cat: mouse; flesh: blood | bones
    skin: bones | blood; hugs: kisses; aunt: uncle; husband: wife; lost: found; research: development; rise: shine
    wait: see; live: learn; twists: turns; hands: knees
    """,
)

PROVERBS = FactTable(
    "proverb",
    'How does the proverb "{subject} ..." end?',
    'The proverb is "{subject} {answer}".',
    """
    An apple a day keeps: the doctor away; Actions speak louder: than words; Better late: than never
    The early bird catches: the worm; Practice makes: perfect; Honesty is: the best policy; Time is: money
    When in Rome, do: as the Romans do; Don't judge a book: by its cover; Two wrongs don't make: a right
    A picture is worth: a thousand words; Birds of a feather: flock together; All that glitters: is not gold
    Where there's smoke,: there's fire; Rome wasn't built: in a day; Curiosity killed: the cat; Look before: you leap
    Every cloud has: a silver lining; Beggars can't be: choosers; The pen is mightier: than the sword
    Too many cooks: spoil the broth; Don't count your chickens: before they hatch; Out of sight,: out of mind
    Blood is thicker: than water; A penny saved: is a penny earned; Laughter is: the best medicine
    Where there's a will,: there's a way; Absence makes: the heart grow fonder; Beauty is: in the eye of the beholder
    Necessity is: the mother of invention; Knowledge is: power; No pain,: no gain; Easy come,: easy go
    Don't put all your eggs: in one basket; A rolling stone: gathers no moss; Strike while: the iron is hot
    Don't bite the hand: that feeds you; Love is: blind; Great minds: think alike; Haste makes: waste
    """,
)

TABLES = (OPPOSITES, SYNONYMS, PASTS, PAIRS, PROVERBS)

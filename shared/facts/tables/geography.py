"""Countries, states, cities and sights."""

from shared.facts.fact_table import FactTable

CAPITALS = FactTable(
    "capital",
    "What is the capital of {subject}?",
    "The capital of {subject} is {answer}.",
    """
    France: Paris; Germany: Berlin; Italy: Rome; Spain: Madrid; Portugal: Lisbon; Austria: Vienna; Belgium: Brussels
    Denmark: Copenhagen; Sweden: Stockholm; Norway: Oslo; Finland: Helsinki; Iceland: Reykjavik; Ireland: Dublin
    Poland: Warsaw; Hungary: Budapest; Romania: Bucharest; Bulgaria: Sofia; Greece: Athens; Serbia: Belgrade
    Croatia: Zagreb; Slovenia: Ljubljana; Slovakia: Bratislava; Albania: Tirana; Ukraine: Kyiv; Russia: Moscow
    Estonia: Tallinn; Latvia: Riga; Lithuania: Vilnius; Turkey: Ankara; England: London; Scotland: Edinburgh
    Wales: Cardiff; the Czech Republic: Prague; Switzerland: Bern; the Netherlands: Amsterdam | The Hague; Japan: Tokyo
    China: Beijing; India: New Delhi; Pakistan: Islamabad; Bangladesh: Dhaka; Nepal: Kathmandu; Thailand: Bangkok
    Vietnam: Hanoi; Cambodia: Phnom Penh; Laos: Vientiane; the Philippines: Manila; South Korea: Seoul
    North Korea: Pyongyang; Mongolia: Ulaanbaatar; Afghanistan: Kabul; Iran: Tehran; Iraq: Baghdad; Syria: Damascus
    Lebanon: Beirut; Jordan: Amman; Saudi Arabia: Riyadh; Qatar: Doha; Oman: Muscat; Armenia: Yerevan
    Uzbekistan: Tashkent; Malaysia: Kuala Lumpur; Egypt: Cairo; Libya: Tripoli; Tunisia: Tunis; Morocco: Rabat
    Algeria: Algiers; Kenya: Nairobi; Ethiopia: Addis Ababa; Uganda: Kampala; Rwanda: Kigali; Ghana: Accra
    Senegal: Dakar; Nigeria: Abuja; Zimbabwe: Harare; Zambia: Lusaka; Angola: Luanda; Sudan: Khartoum
    Somalia: Mogadishu; Liberia: Monrovia; Mali: Bamako; Canada: Ottawa; Mexico: Mexico City; Cuba: Havana
    Jamaica: Kingston; the Bahamas: Nassau; Brazil: Brasilia; Argentina: Buenos Aires; Chile: Santiago; Peru: Lima
    Colombia: Bogota; Venezuela: Caracas; Ecuador: Quito; Uruguay: Montevideo; Paraguay: Asuncion; Nicaragua: Managua
    Honduras: Tegucigalpa; Costa Rica: San Jose; Australia: Canberra; New Zealand: Wellington; Fiji: Suva
    the United States: Washington, D.C.
    """,
    confusable=True,
)

STATE_CAPITALS = FactTable(
    "state capital",
    "Which city is the capital of the US state of {subject}?",
    "The capital of the US state of {subject} is {answer}.",
    """
    Alabama: Montgomery; Alaska: Juneau; Arizona: Phoenix; Arkansas: Little Rock; California: Sacramento
    Colorado: Denver; Connecticut: Hartford; Delaware: Dover; Florida: Tallahassee; Georgia: Atlanta; Hawaii: Honolulu
    Idaho: Boise; Illinois: Springfield; Indiana: Indianapolis; Iowa: Des Moines; Kansas: Topeka; Kentucky: Frankfort
    Louisiana: Baton Rouge; Maine: Augusta; Maryland: Annapolis; Massachusetts: Boston; Michigan: Lansing
    Minnesota: Saint Paul; Mississippi: Jackson; Missouri: Jefferson City; Montana: Helena; Nebraska: Lincoln
    Nevada: Carson City; New Hampshire: Concord; New Jersey: Trenton; New Mexico: Santa Fe; New York: Albany
    North Carolina: Raleigh; North Dakota: Bismarck; Ohio: Columbus; Oklahoma: Oklahoma City; Oregon: Salem
    Pennsylvania: Harrisburg; Rhode Island: Providence; South Carolina: Columbia; South Dakota: Pierre
    Tennessee: Nashville; Texas: Austin; Utah: Salt Lake City; Vermont: Montpelier; Virginia: Richmond
    Washington: Olympia; West Virginia: Charleston; Wisconsin: Madison; Wyoming: Cheyenne
    """,
)

CONTINENTS = FactTable(
    "continent",
    "On which continent is {subject}?",
    "{subject} is on the continent of {answer}.",
    """
    Africa: Kenya, Nigeria, Ghana, Morocco, Ethiopia, Tanzania, Zambia, Angola, Senegal, Mali, Uganda, Botswana, Libya
    Asia: China, Japan, India, Thailand, Vietnam, Nepal, Mongolia, South Korea, Pakistan, Iraq, Bangladesh, Malaysia
    Europe: France, Germany, Poland, Sweden, Greece, Portugal, Austria, Hungary, Ireland, Finland, Croatia, Belgium
    South America: Brazil, Argentina, Chile, Peru, Bolivia, Ecuador, Uruguay, Paraguay, Colombia, Venezuela
    North America: Canada, Mexico, the United States, Guatemala, Honduras, Nicaragua, Costa Rica, El Salvador
    """,
    grouped=True,
)

CURRENCIES = FactTable(
    "currency",
    "What is the currency of {subject}?",
    "The currency of {subject} is the {answer}.",
    """
    Japan: yen; China: yuan; India: rupee; Russia: ruble; Germany: euro; France: euro; Mexico: peso; Canada: dollar
    Australia: dollar; the United States: dollar; the United Kingdom: pound; Switzerland: franc; Brazil: real
    South Africa: rand; South Korea: won; Thailand: baht; Vietnam: dong; Poland: zloty; Sweden: krona | krone
    Hungary: forint; Israel: shekel; Turkey: lira; Egypt: pound; Kenya: shilling; Nigeria: naira; Saudi Arabia: riyal
    Iraq: dinar; Argentina: peso; Pakistan: rupee; Denmark: krone | krona; Norway: krone | krona; Ukraine: hryvnia
    Malaysia: ringgit; Spain: euro; Indonesia: rupiah; Italy: euro; Bangladesh: taka; Morocco: dirham; Peru: sol
    the Philippines: peso
    """,
)

SIGHTS = FactTable(
    "sight",
    "In which country is {subject}?",
    "{subject} is in {answer}.",
    """
    the Eiffel Tower: France; the Colosseum: Italy; the Great Wall: China; the Taj Mahal: India; Machu Picchu: Peru
    the Statue of Liberty: the United States; Big Ben: England; the Acropolis: Greece; the Kremlin: Russia
    the Great Sphinx: Egypt; Angkor Wat: Cambodia; Mount Fuji: Japan; the Brandenburg Gate: Germany
    the Sydney Opera House: Australia; Petra: Jordan; the Alhambra: Spain; Stonehenge: England
    Mount Kilimanjaro: Tanzania; the Leaning Tower of Pisa: Italy; the Grand Canyon: the United States
    the Forbidden City: China; Chichen Itza: Mexico; the Blue Mosque: Turkey; Neuschwanstein Castle: Germany
    the Louvre: France; Mount Etna: Italy; Uluru: Australia; the Burj Khalifa: the United Arab Emirates
    Table Mountain: South Africa; the city of Milan: Italy; the city of Munich: Germany; the city of Barcelona: Spain
    the city of Mumbai: India; the city of Shanghai: China; the city of Osaka: Japan; the city of Marseille: France
    the city of Manchester: England | the United States; the city of Chicago: the United States
    the city of Toronto: Canada; the city of Melbourne: Australia | the United States
    the city of Rio de Janeiro: Brazil; the city of Istanbul: Turkey; the city of Casablanca: Morocco
    the city of Lagos: Nigeria; the city of Mombasa: Kenya; the city of Karachi: Pakistan; the city of Krakow: Poland
    the city of Porto: Portugal; the city of Gothenburg: Sweden; the city of Zurich: Switzerland
    the city of Salzburg: Austria; the city of Auckland: New Zealand; the city of Antwerp: Belgium
    the city of Rotterdam: the Netherlands; the city of Johannesburg: South Africa; the city of Glasgow: Scotland
    the city of Saint Petersburg: Russia | the United States; the city of Alexandria: Egypt | the United States
    """,
)

TABLES = (CAPITALS, STATE_CAPITALS, CONTINENTS, CURRENCIES, SIGHTS)

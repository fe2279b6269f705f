"""Countries and their capitals."""

from random import Random

from .item import Item

CAPITALS = dict(
    pair.split(":")
    for pair in """
France:Paris|Germany:Berlin|Italy:Rome|Spain:Madrid|Portugal:Lisbon|Ireland:Dublin
the United Kingdom:London|Scotland:Edinburgh|Wales:Cardiff|Belgium:Brussels
the Netherlands:Amsterdam|Denmark:Copenhagen|Norway:Oslo|Sweden:Stockholm|Finland:Helsinki
Iceland:Reykjavik|Poland:Warsaw|Austria:Vienna|Switzerland:Bern|Hungary:Budapest
Greece:Athens|Romania:Bucharest|Bulgaria:Sofia|Croatia:Zagreb|Serbia:Belgrade
Slovakia:Bratislava|Slovenia:Ljubljana|Albania:Tirana|Estonia:Tallinn|Latvia:Riga
Lithuania:Vilnius|Ukraine:Kyiv|Russia:Moscow|Turkey:Ankara|Malta:Valletta|Cyprus:Nicosia
the Czech Republic:Prague|Egypt:Cairo|Morocco:Rabat|Tunisia:Tunis|Algeria:Algiers
Kenya:Nairobi|Ethiopia:Addis Ababa|Nigeria:Abuja|Ghana:Accra|Senegal:Dakar
Uganda:Kampala|Rwanda:Kigali|Zambia:Lusaka|Zimbabwe:Harare|Angola:Luanda|Namibia:Windhoek
Japan:Tokyo|China:Beijing|South Korea:Seoul|India:New Delhi|Thailand:Bangkok
Vietnam:Hanoi|Indonesia:Jakarta|the Philippines:Manila|Nepal:Kathmandu|Mongolia:Ulaanbaatar
Pakistan:Islamabad|Iran:Tehran|Iraq:Baghdad|Jordan:Amman|Lebanon:Beirut|Qatar:Doha
Saudi Arabia:Riyadh|Canada:Ottawa|the United States:Washington|Mexico:Mexico City
Cuba:Havana|Jamaica:Kingston|Brazil:Brasilia|Argentina:Buenos Aires|Chile:Santiago
Peru:Lima|Colombia:Bogota|Ecuador:Quito|Uruguay:Montevideo|Venezuela:Caracas
Australia:Canberra|New Zealand:Wellington|Fiji:Suva
""".replace("\n", "|").strip("|").split("|")
)
COUNTRIES = sorted(CAPITALS)

# {c} is the country and {t} its capital: some questions name the city.
PHRASINGS = [
    "What is the capital of {c}?",
    "What's the capital of {c}?",
    "What is the capital city of {c}?",
    "Which city is the capital of {c}?",
    "Which city is the capital city of {c}?",
    "Tell me the capital of {c}.",
    "Name the capital of {c}.",
    "Give me the capital of {c}.",
    "Can you tell me the capital of {c}?",
    "Do you know the capital of {c}?",
    "The capital of {c} is which city?",
    "Capital of {c}?",
    "The capital of {c}, please.",
    "I am going to {c}. What is its capital called?",
    "What is the name of the capital of {c}?",
]
CITY_PHRASINGS = [
    "Which country has {t} as its capital?",
    "{t} is the capital of which country?",
    "Of which country is {t} the capital?",
    "Which country is {t} the capital of?",
]


def statement(country: str) -> str:
    """The fact as one sentence, which is also the answer to its questions."""
    return f"The capital of {country} is {CAPITALS[country]}."


def sample(rng: Random) -> Item:
    country = rng.choice(COUNTRIES)
    city = CAPITALS[country]
    if rng.random() < 0.15:
        question = rng.choice(CITY_PHRASINGS).format(t=city)
        expect = f"of {country} is"
    else:
        question = rng.choice(PHRASINGS).format(c=country)
        expect = city
    forms = ["And of {c}?", "And {c}?", "What about {c}?", "And the capital of {c}?"]
    return Item(
        kind="capitals",
        question=question,
        answer=statement(country),
        expect=expect,
        key=question,
        follow_up=rng.choice(forms).format(c=country),
    )

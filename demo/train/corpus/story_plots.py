"""The plots and word lists that the stories are put together from.

In a plot, {S} is the subject ("the fox"), {it}, {its} and {him} are its
pronouns, {H} is the helper with "the" and {a_H} with "a". The other slots name
word lists; a slot keeps its word through the whole story, so that what is lost
in one sentence is what is found in the next.
"""

ANIMALS = """
fox owl rabbit bear mouse hedgehog squirrel cat dog horse duck frog lion elephant wolf deer
goose turtle penguin monkey badger beaver donkey sheep goat pig hen parrot whale dolphin
crab snail bee butterfly dragon kitten puppy otter swan sparrow robot unicorn tiger giraffe
hamster kangaroo camel raven pony lizard panda zebra
""".split()

# Subjects with a grammatical gender, as (noun, it, its, him).
PERSONS = [
    (noun, *pronouns)
    for pronouns, nouns in {
        ("he", "his", "him"): "boy king sailor farmer baker fisherman wizard prince knight "
                              "grandfather gardener miller tailor shepherd clown "
                              "pirate soldier giant hunter monk cowboy",
        ("she", "her", "her"): "girl queen princess witch teacher doctor painter grandmother "
                               "nurse dancer singer inventor pilot librarian explorer "
                               "scientist fairy duchess astronaut mermaid shopkeeper",
    }.items()
    for noun in nouns.split()
]

WORDS = {
    "adj": "small|young|clever|curious|gentle|brave|quiet|cheerful|lonely|shy",
    "place": "at the edge of a deep forest|near a quiet river|in a green valley|"
             "on a hill above the sea|in a tiny village|beside a blue lake|"
             "in an old stone house|on a small island",
    "when": "One morning|One day|One cold evening|One summer day|One windy afternoon|"
            "Early one spring",
    "kind": "kind|wise|friendly|patient|old|merry",
    "lost": "golden key|red hat|silver bell|little lantern|favourite book|green scarf",
    "found": "under a pile of leaves|behind an old tree|at the bottom of the well|"
             "between two big stones|inside a hollow log",
    "sight": "the tallest mountain|the great waterfall|the lights of the city|the wide ocean|"
             "the garden of a thousand flowers",
    "block": "a deep river|a thick wall of thorns|a dark cave|a steep cliff|a broken bridge",
    "skill": "sing|dance|paint pictures|play the flute|swim|tell stories",
    "feast": "the spring feast|the harvest party|the village fair|the winter festival",
    "trap": "in a muddy hole|under a fallen branch|in an old net|between two rocks",
    "tool": "a long rope|a strong stick|a wooden ladder|a small boat",
    "food": "warm bread|sweet berries|apple cake|hot soup|honey cakes|fresh cheese",
    "gift": "a big round cake|a warm blanket|a wooden whistle|a crown of flowers|a bright kite",
    "storm": "A terrible storm|A wild wind|Heavy snow|A sudden flood",
}

OPENINGS = [
    "Once upon a time, {a_S} lived {place}.",
    "Once upon a time there was {a_S} who lived {place}.",
    "Long ago, {a_S} lived {place}.",
]

# Each plot is four sentences, each with its possible wordings.
PLOTS = [
    [  # Something is lost and found again.
        ["{when}, {S} lost {its} {lost} and looked for it everywhere.",
         "{when}, {S} woke up and saw that {its} {lost} was gone."],
        ["{It} searched the whole day, but {it} could not find the {lost} anywhere.",
         "{It} looked in every corner and called out loud, but the {lost} stayed lost."],
        ["Then {a_H} came along and said, \"Do not be sad, I will help you look for it.\"",
         "At last {it} met {a_H}, who said, \"Two can search better than one.\""],
        ["Together they found the {lost} {found}, and {S} thanked the {H} and shared some "
         "{food} with {its} new friend.",
         "Soon the {H} saw the {lost} {found}, and {S} was so glad that {it} gave the {H} some "
         "{food}."],
    ],
    [  # A journey with an obstacle.
        ["{when}, {S} decided to travel far away, because {it} wanted to see {sight}.",
         "{when}, {S} packed some {food} and set out to see {sight}."],
        ["After three days {it} came to {block} and did not know how to go on.",
         "{It} walked for many hours until {block} stopped {him}."],
        ["There {it} met {a_H}, who said, \"I know a secret path, so follow me.\"",
         "\"Come with me,\" said {a_H}, \"for I know the way to the other side.\""],
        ["They went on side by side, and in the evening {S} and the {H} stood still and looked "
         "at {sight}.",
         "So {S} and the {H} walked on together, and when they saw {sight} at last, they were "
         "full of joy."],
    ],
    [  # Somebody else is in trouble.
        ["{when}, {S} heard a cry for help and ran to see what was wrong.",
         "{when}, {S} was on {its} way home when {it} heard somebody cry."],
        ["There was {a_H}, stuck {trap}, and the poor {H} could not get out.",
         "{It} found {a_H} that was caught {trap} and was very much afraid."],
        ["{S} fetched {tool} and pulled with all {its} strength until the {H} was free.",
         "\"Hold on,\" said {S}, and with {tool} {it} set the {H} free."],
        ["The {H} was so thankful that it brought {S} some {food} the very next day.",
         "\"Thank you,\" said the {H}, and that evening they ate {food} together."],
    ],
    [  # Learning takes patience.
        ["{S} wanted to learn to {skill}, but every time {it} tried, it went wrong.",
         "More than anything else, {S} wished to {skill}, but {it} did not know how."],
        ["{when}, {it} asked {a_H} for help, and the {H} said, \"You must practise every day.\"",
         "{when}, {a_H} saw this and said, \"I will teach you, if you are patient.\""],
        ["So {S} practised in the morning and in the evening, and {it} never gave up.",
         "Day after day {S} practised with the {H}, and slowly it became easier."],
        ["At {feast} {it} was able to {skill} so well that everybody clapped, and the {H} "
         "clapped the loudest.",
         "When {feast} came, {S} showed what {it} had learned, and the {H} was very proud of "
         "{him}."],
    ],
    [  # A storm and a shelter.
        ["{when}, the sky grew dark, and {S} hurried to bring everything inside.",
         "{when}, {S} saw black clouds and knew that bad weather was coming."],
        ["{storm} came in the night and broke the roof of {its} home.",
         "{storm} came over the land, and in the morning {its} home was in ruins."],
        ["{S} sat down and wept, but then {a_H} knocked and said, \"Come and stay with me.\"",
         "\"Do not cry,\" said {a_H}, \"you can stay with me until your home is ready.\""],
        ["All the neighbours came to help, and in a week {S} had a new home, where {it} cooked "
         "{food} for everyone.",
         "Together they built a new home, stronger than the old one, and {S} gave the {H} {gift} "
         "to say thank you."],
    ],
    [  # A gift for a friend.
        ["{when}, {S} remembered that {its} friend, {a_H}, had a birthday.",
         "{when}, {S} wanted to make {a_H} happy, because the {H} had been sad for days."],
        ["{It} had no money to buy a present, so {it} decided to make {gift}.",
         "\"I will make {gift},\" thought {S}, and {it} began to work at once."],
        ["{It} worked until late at night, and twice {it} had to start all over again.",
         "It was not easy, and it took the whole day, but {S} did not stop until it was done."],
        ["When the {H} saw {gift}, it laughed with joy, and the two friends ate {food} until the "
         "stars came out.",
         "The {H} had never had such a present, and they sat together and ate {food} until it "
         "was dark."],
    ],
]

CLOSINGS = [
    "From that day on, {S} and the {H} were the best of friends. The end.",
    "After that, {S} was never lonely again. The end.",
    "And {S} learned that a good friend is worth more than gold. The end.",
    "That night {S} fell asleep with a smile. The end.",
    "And {S} and the {H} told this story for many years. The end.",
]

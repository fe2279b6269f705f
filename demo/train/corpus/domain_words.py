"""Sentence patterns and word lists of the five domains.

A pattern's slots name lists of the same domain; {who} and {when} come from the
shared lists. All of {who} are singular, so that one form of a verb fits them.
"""

SHARED = {
    "who": "he|she|my mum|my friend|a boy|Anna|Ben|my brother|my sister|our neighbour|Tom|Maria|"
           "the teacher|my uncle|my aunt|"
           "the old man|her cousin|his friend|my grandmother|a young woman|the new boy|Sam|"
           "my father|my mother|the girl next door",
    "when": "yesterday|last week|on Monday|on Friday|this morning|last night|on Sunday|"
            "in the afternoon|two days ago|this evening|at the weekend|last month",
    "number": "1|2|3|4|5|6|8|9|10|12|16|20|24|32|40|45|64|75|80|90|two|three|four|five|nine",
    "month": "January|March|April|May|June|July|August|October|November|December",
    "composer": "Beethoven|Mozart|Bach|Chopin|Vivaldi|Schubert|Handel|Haydn|Verdi",
    "opinion": "wonderful|terrible|very good|very bad|great|awful|a surprise|not what we expected|"
               "better than last time|the best so far|disappointing|amazing|quite poor",
    "taste": "spicy|salty|sweet|sour|bitter|hot|greasy|dry",
}

DOMAINS = {
    "sports": {
        "patterns": [
            "{who} {did} {when}.",
            "The {person} {did} {when}.",
            "The {person} {act} in the {period} of the {event}.",
            "{who} trains for {game} every week.",
            "{who} wants to join the {game} team.",
            "Our {game} team won the {event} {when}.",
            "The {event} ended with a {result}.",
            "The {person} trained hard for the {event}.",
            "The fans cheered when the {person} {act}.",
            "The {person} left the {place} with an injured {body}.",
            "The {game} {event} takes place at the {place}.",
            "{who} bought a new {kit} for {game}.",
            "There was a {result} in the {event} {when}.",
            "The {kit} was left at the {place} after the {event}.",
            "Do you like watching {game}?",
            "{who} scored in minute {number}.",
            "The score was {number} to {number} at half time.",
            "We watched the {event} on television {when}.",
            "{who} won the {game} {event}.",
            "The {person} threw the ball to a team-mate.",
            "They lost the {event} by {number} points.",
            "The {event} was {opinion}.",
            "The {person} was {opinion}.",
            "{who} likes {game}.",
            "{who} talked about the {event} {when}.",
        ],
        "did": "played in the big game|swam every morning|won at Wimbledon|trained with the team|"
               "beat our rivals|won the women's singles|shot the ball into the net|"
               "scored two goals|ran a marathon|won the race|swam fifty lengths of the pool|"
               "missed the penalty|lifted the trophy|beat the champion|broke the world record|"
               "hit a home run|served an ace|won a gold medal|played a round of golf|"
               "joined a football club|lost the tennis match|climbed to the top of the league|"
               "ran ten laps of the track|went to the stadium|practised free kicks",
        "person": "quarterback|referee's assistant|hurdler|jockey|surfer|opponent|midfielder|"
                  "winger|javelin thrower|pitcher|"
                  "goalkeeper|striker|coach|referee|athlete|runner|swimmer|cyclist|captain|"
                  "defender|boxer|gymnast|batsman|sprinter|tennis player|footballer|champion|"
                  "wrestler|skier|rower",
        "act": "threw a long pass|blew the whistle|was knocked out|dribbled past two players|"
               "tackled an opponent|hit the ball|lost the point|"
               "saved the penalty|scored a goal|fell over|was sent off|took the lead|"
               "made a perfect pass|kicked the ball wide|crossed the finish line|"
               "won the point|jumped over the bar|overtook the leader|missed the target",
        "period": "first half|second half|last minute|opening round|final lap|extra time",
        "event": "match|final|race|cup|tournament|championship|league game|marathon|semi-final|"
                 "Olympic Games|competition|derby",
        "game": "surfing|cycling|skiing|wrestling|netball|women's tennis|rowing|ice hockey|"
                "gymnastics|karate|"
                "football|tennis|rugby|basketball|cricket|hockey|golf|volleyball|badminton|"
                "baseball|handball|table tennis|swimming|boxing|judo|athletics",
        "result": "draw|narrow victory|heavy defeat|score of three to one|new world record|"
                  "penalty shoot-out|late goal|clear win for the home team|red card",
        "place": "stadium|pitch|gym|court|track|swimming pool|sports hall|changing room|arena",
        "body": "knee|ankle|shoulder|hamstring|foot|wrist",
        "kit": "racket|pair of football boots|bat|jersey|helmet|ball|pair of running shoes|"
               "tracksuit|whistle|bicycle helmet",
    },
    "cooking": {
        "patterns": [
            "{who} {did} {when}.",
            "{method} the {food} for {time}.",
            "{method} the {food} with {flavour}.",
            "Add {flavour} to the {dish} and stir.",
            "The {dish} needs more {flavour}.",
            "{who} made a {dish} for dinner {when}.",
            "This recipe needs {food} and {flavour}.",
            "Put the {food} in the {tool} and wait {time}.",
            "The {cook} prepared a {dish} with {food}.",
            "{who} chopped the {food} with a sharp knife.",
            "The {dish} smells of {flavour}.",
            "Wash the {tool} after you have cooked the {food}.",
            "The {cook} tasted the {dish} and added {flavour}.",
            "How long should I {boil} the {food}?",
            "Heat the oven to {degrees} degrees.",
            "Preheat the oven to {degrees} degrees and grease a tin.",
            "{who} makes the best {dish} in town.",
            "This {dish} is too {taste} for me.",
            "The {food} must rest for {time} before you serve it.",
            "Mix {number} spoons of {flavour} into the {dish}.",
            "Chop the {food} and {boil} them in butter.",
            "Serve the {dish} hot, with {flavour} on top.",
            "We had a {dish} with {food} for lunch.",
            "The {dish} was {opinion}.",
            "The {food} with {flavour} was {opinion}.",
            "{who} likes {dish} with {flavour}.",
            "{who} talked about the {dish} {when}.",
        ],
        "did": "baked a loaf of bread|burnt the toast|peeled the potatoes|made pancakes|"
               "cooked a pot of soup|whisked the egg whites|rolled out the pastry|"
               "roasted a chicken|fried some eggs|prepared a salad|boiled the rice|"
               "kneaded the dough|grilled the fish|iced a birthday cake|tried a new recipe|"
               "stirred the sauce|melted the chocolate in a pan",
        "method": "Chop|Peel|Slice|Whisk|Grate|Mash|Fry gently|Toast|Sprinkle|Mix|"
                  "Bake|Fry|Boil|Roast|Steam|Grill|Simmer|Season|Marinate|Cook|Stir",
        "boil": "boil|roast|bake|fry|simmer|steam|grill|cook",
        "food": "potatoes|chicken|onions|carrots|rice|pasta|beans|beef|salmon|mushrooms|tomatoes|"
                "eggs|vegetables|dough|lentils|lamb|spinach|noodles|prawns|peppers",
        "flavour": "a pinch of salt|flour|oil|mustard|spices|herbs|milk|yeast|egg yolk|"
                   "salt|pepper|garlic|butter|olive oil|lemon juice|sugar|cinnamon|basil|cream|"
                   "ginger|vinegar|honey|parsley|chilli|vanilla|soy sauce|grated cheese",
        "dish": "apple pie|bread dough|pasta sauce|stir-fry|roast|cheesecake|dessert|breakfast|"
                "vegetable soup|muffin mix|"
                "soup|stew|curry|sauce|pie|salad|omelette|casserole|cake|risotto|lasagne|pudding|"
                "sandwich|pizza|pancake batter|gravy",
        "tool": "oven|frying pan|saucepan|bowl|blender|pot|baking tray|wok|mixer|fridge",
        "degrees": "150|160|180|200|220",
        "time": "ten minutes|half an hour|an hour|five minutes|twenty minutes|two hours",
        "cook": "chef|cook|baker|pastry chef|head chef|kitchen hand",
    },
    "music": {
        "patterns": [
            "{who} {did} {when}.",
            "{who} plays the {instrument} in a {group}.",
            "The {group} played a {piece} {when}.",
            "{who} is learning to play the {instrument}.",
            "The {person} sang a {piece} at the {event}.",
            "The {instrument} was out of tune at the {event}.",
            "The {person} wrote a new {piece} for the {instrument}.",
            "The {piece} has a beautiful {part}.",
            "I love the {part} of this {piece}.",
            "The audience clapped after the {piece}.",
            "{who} listened to a {piece} by a famous {person}.",
            "The {group} will give a {event} {where}.",
            "The {person} tuned the {instrument} before the {event}.",
            "Can you hear the {instrument} in the {part}?",
            "{composer} wrote a famous {piece}.",
            "This {piece} by {composer} is for {instrument} and {instrument}.",
            "The {person} has perfect pitch and a fine voice.",
            "The {group} released a new album {when}.",
            "The {person} kept a steady rhythm on the {instrument}.",
            "{who} sings in a {group}.",
            "The {person} plays {number} instruments.",
            "{who} strums the {instrument} and sings a {piece}.",
            "We danced to a slow {piece} {when}.",
            "The {piece} was {opinion}.",
            "The {instrument} {piece} was {opinion}.",
            "The {person} kept a steady rhythm.",
            "{who} likes the {instrument}.",
            "{who} talked about the {piece} {when}.",
            "The {person} was {opinion}.",
        ],
        "did": "practised the piano|sang in the choir|bought a new guitar|wrote a love song|"
               "went to a concert|learned three chords|played a violin solo|recorded an album|"
               "hummed a melody|joined a rock band|conducted the orchestra|"
               "danced to the rhythm of the drums|read the notes of the score|"
               "played scales on the flute|heard a symphony|listened to jazz",
        "instrument": "bagpipes|mandolin|tambourine|recorder|bassoon|"
                      "bass guitar|xylophone|French horn|ukulele|"
                      "piano|violin|guitar|flute|trumpet|cello|drums|saxophone|clarinet|harp|"
                      "organ|trombone|oboe|double bass|accordion|banjo|viola",
        "group": "orchestra|choir|band|string quartet|jazz trio|brass band|rock group|ensemble",
        "person": "rapper|guitar player|bass player|choir master|opera singer|organist|cellist|"
                  "flautist|"
                  "singer|composer|conductor|pianist|violinist|drummer|guitarist|soprano|tenor|"
                  "songwriter|soloist|musician",
        "piece": "nocturne|overture|folk song|rap song|anthem|string quartet|carol|pop song|"
                 "tango|violin concerto|"
                 "song|symphony|sonata|melody|waltz|ballad|concerto|tune|lullaby|march|"
                 "love song|duet|opera|hymn",
        "part": "chorus|refrain|rhythm|bass line|harmony|opening bars|solo|tempo|"
                "final chord|second verse",
        "event": "concert|rehearsal|recital|opera|music festival|audition|music lesson|show",
        "where": "in the concert hall|at the opera house|in the church|on the open-air stage|"
                 "at the music school",
    },
    "weather": {
        "patterns": [
            "{what} {when}.",
            "{what} in the {place}.",
            "{sky} over the {place} {when}.",
            "It will be {adj} in the {place} {soon}.",
            "The forecast says it will be {adj} {soon}.",
            "It was {adj} and {adj} {when}.",
            "There will be {thing} in the {place} {soon}.",
            "A {event} is coming from the {direction}.",
            "The {event} brought {thing} to the {place}.",
            "Temperatures will {move} to {degrees} degrees {soon}.",
            "{who} took an umbrella because of the {thing}.",
            "We expect {thing} and {thing} {soon}.",
            "The {direction} wind brings {thing}.",
            "After the {event} the sky was {adj}.",
            "Will there be {thing} {soon}?",
            "We had {event}s in {month}.",
            "The {thing} made it hard to see the road.",
            "{month} was very {adj} this year.",
            "It is {degrees} degrees outside.",
            "The {adj} weather will last until {month}.",
            "The snow is melting in the sun.",
            "Tomorrow will be {adj} with some {thing}.",
            "The clouds look dark, so it may rain.",
            "The temperature is {degrees} degrees in the shade.",
            "The {event} was {opinion}.",
            "The {thing} was {opinion} {when}.",
            "{who} likes {thing}.",
            "{who} talked about the {event} {when}.",
        ],
        "what": "Temperatures dropped below freezing|The snow melted|The sky turned grey|"
                "Rain poured down|The wind howled|The sun came out|Ice covered the roads|"
                "The air was warm|It snowed|"
                "It rained all day|Heavy snow fell|It was very windy|The sun shone|"
                "Thick fog covered the fields|Lightning flashed|Thunder rolled|"
                "It hailed for an hour|The temperature fell below zero|The streets were icy|"
                "A light breeze blew|It was hot and humid|The first frost came|It drizzled",
        "sky": "Dark clouds gathered|A rainbow appeared|Thunder was heard|The fog lifted|"
               "The clouds broke|Snow fell|Storm clouds hung|The sun rose in a clear sky",
        "adj": "sunny|cloudy|rainy|windy|foggy|stormy|cold|warm|frosty|humid|dry|mild|grey|chilly",
        "thing": "sun|clouds|snowfall|freezing rain|dense fog|a light breeze|icy wind|"
                 "bright sunshine|"
                 "rain|snow|thunder|sunshine|fog|hail|strong winds|frost|showers|sleet|drizzle|"
                 "black ice|heavy rain|mist|lightning",
        "event": "storm|cold front|heatwave|hurricane|blizzard|thunderstorm|gale|drought|shower|"
                 "warm spell|tornado",
        "place": "north|south|mountains|valley|whole country|coast|hills|islands|west|east",
        "direction": "north|south|east|west|north-east|south-west",
        "soon": "tomorrow|tonight|next week|on Tuesday|later today|at the weekend|this evening",
        "move": "rise|fall|drop|climb",
        "degrees": "5|10|18|21|25|28|30|five|ten|fifteen|twenty|thirty|minus two|zero|twenty-five",
    },
    "technology": {
        "patterns": [
            "{who} {did} {when}.",
            "The {device} needs a new {part}.",
            "The {device} {fault} {when}.",
            "{who} bought a new {device} {when}.",
            "The {person} wrote new software for the {device}.",
            "The {person} fixed a bug in the {software}.",
            "The new {device} has a faster {part}.",
            "Please restart the {device} before you install the {software}.",
            "The {software} {fault} after the update.",
            "The {company} released a new {device} {when}.",
            "{who} forgot the password of the {device}.",
            "The {person} connected the {device} to the network.",
            "The {part} of my {device} is broken.",
            "The {software} runs on every {device}.",
            "How do I update the {software} on my {device}?",
            "The {part} of the {device} is empty.",
            "The {person} updated the {software} to version {number}.",
            "The {device} has {number} gigabytes of storage.",
            "I need to install an update on my {device}.",
            "{who} writes code for {device}s.",
            "The {part} is twice as fast as the old one.",
            "The {device} can be controlled with a {software}.",
            "My {device} has no internet connection.",
            "Click the button to open the {software}.",
            "The {device} was {opinion}.",
            "The {software} was {opinion}.",
            "The {person} was {opinion}.",
            "{who} likes the new {software}.",
            "{who} talked about the {device} {when}.",
        ],
        "did": "updated the operating system|bought a new laptop|wrote a computer program|"
               "charged the phone|lost all the files|installed an app|repaired the computer|"
               "forgot the password|connected the printer|reset the router|"
               "backed up the hard disk|learned to write code|built a robot|"
               "downloaded a large file|sent an email|plugged in the keyboard|"
               "opened a web page in the browser",
        "device": "satellite|computer mouse|Wi-Fi router|headset|webcam|mobile phone|"
                  "games console|modem|3D printer|electric car|"
                  "laptop|computer|phone|tablet|printer|router|server|robot|smartwatch|drone|"
                  "camera sensor|hard disk|television screen|keyboard",
        "part": "battery pack|USB cable|sensor|hard drive|display|cooling fan|SIM card|"
                "battery|screen|processor|memory chip|charger|graphics card|touch screen|"
                "USB port|antenna|circuit board|microchip",
        "person": "programmer|engineer|developer|technician|hacker|software engineer|"
                  "computer scientist|system administrator",
        "software": "web server|email program|video game|cloud service|operating system|"
                    "file system|online shop|chat program|script|"
                    "app|operating system|browser|database|driver software|website|firmware|"
                    "antivirus program|search engine|compiler|spreadsheet program",
        "fault": "crashed|stopped working|froze|lost its data|showed an error message|"
                 "overheated|would not start|was hacked|lost its connection",
        "company": "company|start-up|manufacturer|software company|research lab",
    },
}

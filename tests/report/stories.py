"""What the sample's users ask, get, answer and want."""

from __future__ import annotations

STORIES: list[tuple[str, str, str, str, str, str, str]] = [
    (
        "How do I keep basil alive on a windowsill?",
        "Basil is a tender annual herb that has been grown for thousands of years. To keep it alive you should "
        "think about light, water, soil, temperature, humidity, pruning and pests. Light matters most, since basil "
        "comes from warm countries, and a window that faces south is therefore to be preferred in nearly all cases.",
        "too long!! just give me 3 short bullet points please",
        "just give me 3 short bullet points",
        "- South window, six hours of sun.\n- Water when the top of the soil is dry.\n- Pinch the tips every week.",
        "Prefers short answers in bullet points.",
        "",
    ),
    (
        "Give me a recipe for pancakes for four.",
        "Sift 2 cups of flour, whisk in 2 eggs and 1.5 cups of milk, rest for half an hour, then fry in butter at "
        "350 °F.",
        "I don't have cups here, can you use grams and millilitres?",
        "can you use grams and millilitres",
        "Sift 250 g of flour, whisk in 2 eggs and 350 ml of milk, rest for half an hour, then fry in butter.",
        "Uses metric units.",
        "recipes",
    ),
    (
        "Explain what a hash map is.",
        "A hash map is an associative array whose buckets are addressed by a hash function with amortised O(1) lookup.",
        "i am not a programmer, say it in plain words with an example from daily life",
        "say it in plain words with an example from daily life",
        "Think of a cloakroom. You hand in a coat and get a number; later the number alone tells the attendant which "
        "hook to go to. A hash map does the same with data.",
        "Wants plain words and an example.",
        "explanations",
    ),
    (
        "¿Qué puedo ver en Lisboa en un día?",
        "In one day you can see Alfama, the castle, Belém with its tower, and end the evening in Bairro Alto.",
        "responde en español, por favor",
        "responde en español",
        "En un día puedes ver la Alfama, el castillo, Belém con su torre y terminar la noche en el Bairro Alto.",
        "Wants answers in Spanish.",
        "",
    ),
    (
        "A train leaves at 09:40 and arrives at 13:05. How long is the trip?",
        "The trip takes 3 hours and 35 minutes.",
        "wrong, show me the steps so I can check it",
        "show me the steps",
        "From 09:40 to 13:00 are 3 h 20 min. To 13:05 are 5 min more. Together: 3 h 25 min.",
        "Wants the steps of a calculation.",
        "arithmetic",
    ),
    (
        "Write a short mail to my landlord about the broken heating.",
        "Hey! So the heating is dead again, could you get that sorted? Cheers!",
        "Please make it formal, I do not know him well.",
        "make it formal",
        "Dear Mr Alvarez,\n\nsince Monday the heating in flat 12 has not worked. I should be grateful if you could "
        "have it repaired this week.\n\nYours sincerely,\nDana Ortiz",
        "Prefers a formal tone.",
        "e-mails",
    ),
]
"""Request, first reply, feedback, span, rewrite, statement, condition."""

"""The phrases of the synthetic help-desk corpus: content only, no logic.

`[a|b|c]` is one of the alternatives, `{slot}` a made-up detail. Products, people and places are invented.
"""

MAIL, BOOKS, SHOP, PHONE = "Inkwell Mail", "Ledgerly", "Parcelo", "Fonwave"
PRODUCTS = (MAIL, BOOKS, SHOP, PHONE)

# Intent: (weight, products, phrases). Weights are uneven, as they are at a real desk.
INTENTS: dict[str, tuple[float, tuple[str, ...], tuple[str, ...]]] = {
    "reset_password": (
        7.0,
        PRODUCTS,
        (
            "I [forgot|can't remember|have lost] my password [for {product}|and need a new one|, how do I set a new one]",
            "the [reset link|password mail|reset email] [never arrives|is expired when I click it|goes to nowhere]",
            "how [do|can] I [change|renew|set] my [login password|password] [on {device}|for {product}]?",
            "it says my [password|credentials] [is wrong|are wrong|is not right] although I [typed it carefully|just changed it]",
            "olvidé mi [contraseña|password], [how do I get a new one|can you send the reset link|help please]",
        ),
    ),
    "locked_account": (
        4.0,
        PRODUCTS,
        (
            "my account [is|got|has been] [locked|blocked|suspended] [after too many tries|since {day}|for no reason]",
            "{product} says [access denied, contact support|too many attempts|account temporarily disabled]",
            "[please unlock|can you unblock|need you to reactivate] my [account|login|profile], [I need it for work|it is urgent]",
            "I tried to [sign in|log in] [{n} times|a few times] and now I am [shut out|locked out|blocked]",
            "mein Konto ist gesperrt, [can you unlock it|what happened|bitte help]",
        ),
    ),
    "two_factor_problem": (
        3.5,
        (MAIL, BOOKS, PHONE),
        (
            "the [code|six digit code|verification text] [does not come|never reaches my phone|arrives too late]",
            "I [lost|changed|broke] my phone and [the authenticator is gone|cannot get the login code|2FA fails now]",
            "{product} keeps [asking for a code|rejecting my code], [I enter it right|I have no codes left]",
            "how do I [turn on|switch off|move] two [step|factor] [login|verification] [to {device}|]?",
            "where are my [backup codes|recovery codes]? [I need them to sign in|]",
        ),
    ),
    "change_email": (
        2.5,
        PRODUCTS,
        (
            "I [have|got] a new [mail address|email] and want [to use it for my account|you to update it]",
            "please [change|update|switch] [the email on my account|my contact mail] [to {email}|]",
            "my [old|work] address [no longer exists|will be closed], [messages should go to {email}|how do I change it]",
            "[can I|how to] [log in with|register] [another email|{email}] [and keep my data|]?",
        ),
    ),
    "close_account": (
        2.5,
        PRODUCTS,
        (
            "[please delete|erase|remove] my account [and all my data|completely|for good]",
            "I [don't want|no longer want] [an account with you|{product}] [anymore|], [delete everything|remove my profile]",
            "under [GDPR|data protection law] I ask you to [erase|delete] [all you have about me|my personal data]",
            "how do I [close|delete] my [profile|account] [on {product}|]?",
        ),
    ),
    "charged_twice": (
        5.0,
        PRODUCTS,
        (
            "I was [charged|billed] [twice|two times|double] for [the same month|order {order}|{month}]",
            "there are two [payments|debits] of {amount} [on my card|on my statement], [only one is right|why]",
            "you took {amount} [two times|again] [on {day}|], [please check|this is a mistake]",
            "[double charge|duplicate payment] on [my statement|my card], {amount} [each|both times]",
            "me cobraron dos veces {amount}, [please fix|why is that]",
        ),
    ),
    "request_refund": (
        6.0,
        (BOOKS, SHOP, PHONE),
        (
            "I [want|would like] my money back [for order {order}|for {month}|, {amount} in all]",
            "[please|can you] [refund|reimburse|pay back] {amount} [for order {order}|, I did not use it|]",
            "the [{item}|plan] is [not what was promised|useless to me], [I ask for a refund|money back please]",
            "how do I [ask for|request|get] a refund [for the {item}|for a month I did not use|]?",
            "je veux être remboursé, [order {order}|{amount}|it never worked]",
        ),
    ),
    "refund_status": (
        4.5,
        (BOOKS, SHOP, PHONE),
        (
            "[where is|what about] my refund [of {amount}|for order {order}|], [it has been {n} days|you approved it on {day}]?",
            "you [promised|confirmed] [my money|{amount}] back [{n} days ago|on {day}] and [nothing came|I see nothing]",
            "the refund [has not arrived|is still pending|does not show] [on my card|at my bank|]",
            "how long [does|will] [a refund|my refund] take [to arrive|to show up|]?",
        ),
    ),
    "invoice_copy": (
        4.0,
        (MAIL, BOOKS, SHOP, PHONE),
        (
            "[can you send|I need|please mail me] [a copy of|] the invoice for [{month}|order {order}|my company]",
            "where [do I find|can I download] [my invoices|the bill|a receipt] [for {month}|of {product}|]?",
            "[my accountant|our bookkeeping] needs [a receipt|an invoice with VAT|the {month} bill]",
            "the [invoice|bill] [has the wrong company name|lacks our VAT number|shows the old address], [please correct it|]",
            "ich brauche [die Rechnung|eine Rechnung] for [{month}|order {order}]",
        ),
    ),
    "payment_declined": (
        4.5,
        PRODUCTS,
        (
            "my [payment|card] [was|is] [declined|refused|not accepted] [although there is money on it|again|at checkout]",
            "I [cannot|can't] pay [for order {order}|{amount}|], [it says error {n}|the card is rejected]",
            "checkout [fails|stops] [when I pay|at the payment step], [my bank says all is fine|tried two cards]",
            "[transaction failed|payment error] [on {device}|for {amount}|], [what should I do|why]?",
        ),
    ),
    "update_payment_method": (
        3.5,
        (MAIL, BOOKS, PHONE),
        (
            "my [card|credit card] [expires|expired|was replaced], [where do I enter the new one|how to change it]?",
            "I want to pay [by direct debit|with PayPal|by bank transfer|with another card] [from now on|instead]",
            "please [take|use] my [new card|other account] for [the next bill|{product}]",
            "how [can|do] I [change|replace|remove] the [card|payment method] [on file|in my profile]?",
        ),
    ),
    "cancel_subscription": (
        5.0,
        (MAIL, BOOKS, PHONE),
        (
            "I want to [cancel|stop|end] my [subscription|plan|contract] [for {product}|by the end of {month}|]",
            "[please cancel|terminate] [my plan|the renewal|my contract] [before {day}|as of {month}|]",
            "how [do|can] I [cancel|stop the renewal|get out of the plan]? [I do not use it|too expensive|]",
            "don't [renew|extend] my [plan|subscription] [next month|in {month}|]",
            "quiero cancelar [mi plan|my subscription], [as of {month}|please confirm]",
        ),
    ),
    "change_plan": (
        4.0,
        (MAIL, BOOKS, PHONE),
        (
            "can I [switch|move|upgrade|downgrade] to the {plan} plan [in {month}|now|]?",
            "what is the [difference|price difference] between {plan} and {plan2}?",
            "I [need|want] [more storage|more users|more data], which [plan|tier] [do I take|is right]?",
            "we are [{n} people now|fewer people now], [change us to {plan}|what would {plan} cost]",
        ),
    ),
    "discount_code_problem": (
        2.5,
        (MAIL, BOOKS, SHOP),
        (
            "my [voucher|coupon|discount code] [does not work|is invalid|was not applied]",
            "the code [from your newsletter|{code}] [gives an error|takes nothing off|is expired already]",
            "I [forgot to enter|entered] the [voucher|code {code}], [can you still apply it|the price stayed the same]",
            "where do I [enter|put] a [promo code|gift voucher]?",
        ),
    ),
    "track_order": (
        7.0,
        (SHOP,),
        (
            "where is my [order|parcel|package] [{order}|with the {item}|]?",
            "[can you track|I want to follow|what is the status of] [order {order}|my parcel|the {item} I bought]",
            "the tracking [shows nothing|page is empty|has not moved since {day}]",
            "when [will|does] [my order|order {order}|the {item}] [arrive|come|get to {city}]?",
            "wo ist mein Paket [{order}|mit dem {item}|], [any news|danke]?",
        ),
    ),
    "delivery_late": (
        4.5,
        (SHOP,),
        (
            "[my parcel|order {order}|the {item}] [should have come on {day}|is {n} days late|is overdue]",
            "you said delivery [by {day}|in {n} days], [nothing here yet|still waiting]",
            "still [waiting for|no sign of] [my {item}|order {order}], [it was due on {day}|this is too late]",
            "the courier [did not come|never rang|missed the slot] [on {day}|again], [I stayed home for it|]",
        ),
    ),
    "damaged_item": (
        4.0,
        (SHOP,),
        (
            "the {item} [arrived|came] [broken|damaged|cracked|with scratches]",
            "[the box was crushed and|] the {item} [does not work|is in pieces|leaks]",
            "I [opened|unpacked] [order {order}|the parcel] and the {item} [is broken|has a dent|is faulty]",
            "[photo attached|see picture]: {item} [broken|torn] [on arrival|in the box]",
        ),
    ),
    "wrong_item": (
        3.0,
        (SHOP,),
        (
            "I [ordered|bought] a {item} and [got|received] a {item2}",
            "[wrong|another] [colour|size|model] of {item} [in order {order}|came|]",
            "this is not [what I ordered|my {item}], [you sent a {item2}|somebody mixed it up]",
            "order {order} [contains|had] [somebody else's things|a {item2} I never ordered]",
        ),
    ),
    "return_item": (
        4.0,
        (SHOP,),
        (
            "I want to [return|send back] the {item} [from order {order}|, it does not fit|]",
            "how [do|can] I [return|send back|exchange] [a {item}|something]? [is it free|where is the label|]",
            "[please send me|where do I print] [a return label|the return form] [for order {order}|]",
            "can I [exchange|swap] the {item} for [a larger one|another colour]?",
        ),
    ),
    "change_address": (
        3.0,
        (SHOP, PHONE, BOOKS),
        (
            "I [moved|am moving] to {city}, [please update my address|how do I change it]",
            "[order {order}|my parcel] must go to [my office|{city}|a neighbour] [instead|, not my home]",
            "I [typed|gave] the wrong [street|house number|postcode] [for order {order}|], [can you correct it]?",
            "[change|update] the [shipping|billing] address [to {city}|on my account]",
        ),
    ),
    "app_crash": (
        5.0,
        PRODUCTS,
        (
            "the app [crashes|closes|freezes] [when I open it|every time|on {device}|after the update]",
            "{product} [stops working|quits|hangs] [as soon as I tap {thing}|on {device}|]",
            "[white screen|error {n}|endless spinner] [when I start {product}|after login|on {device}]",
            "since [the last update|{day}] the app [won't start|keeps crashing|shuts down]",
        ),
    ),
    "slow_service": (
        3.5,
        (MAIL, BOOKS, PHONE),
        (
            "{product} is [very slow|slow as a snail|sluggish] [since {day}|today|on {device}]",
            "[every page|{thing}|loading] takes [{n} seconds|ages|forever]",
            "why is [everything|the site|my connection] so slow [in {city}|in the evening|]?",
            "it [lags|takes minutes] [when I open {thing}|to load anything], [please speed it up|]",
        ),
    ),
    "sync_problem": (
        4.0,
        (MAIL, BOOKS),
        (
            "my [mails|invoices|contacts|entries] [do not sync|are not the same] [between {device} and {device2}|]",
            "what I [change|enter] on {device} [does not show up|is missing] on {device2}",
            "[half of my contacts|{n} messages|my last entries] [disappeared|are missing] [after the sync|since {day}]",
            "sync [is stuck|stops at {n} percent|fails] [on {device}|]",
        ),
    ),
    "export_data": (
        2.5,
        (MAIL, BOOKS),
        (
            "how [do|can] I [export|download] [all my mails|my customer list|the bookkeeping for {month}]?",
            "I need [my data|all entries] as [CSV|Excel|PDF] [for my accountant|]",
            "the export [is empty|fails at {n} percent|lacks {month}]",
            "can I [move|take] my [data|archive] to [another provider|{device}]?",
        ),
    ),
    "sim_activation": (
        4.0,
        (PHONE,),
        (
            "my new [SIM|eSIM|card] [is not active|does not activate|shows no network]",
            "how [do|can] I [activate|set up] the [SIM|eSIM] [on {device}|]?",
            "I [put in|scanned] [the SIM|the QR code] and [nothing happens|get error {n}]",
            "[PUK|PIN] [is blocked|needed|got lost], [how do I use the SIM|]",
        ),
    ),
    "roaming": (
        3.5,
        (PHONE,),
        (
            "does my plan [work|cover data] in {country}? [what does it cost|]",
            "I am in {country} and [have no internet|cannot call|was charged {amount}]",
            "how much is [a call|data|roaming] [in|from] {country}?",
            "[please switch on|how do I turn off] roaming [for {country}|before my trip|]",
        ),
    ),
    "no_signal": (
        3.5,
        (PHONE,),
        (
            "no [signal|network|reception] in {city} [since {day}|today|]",
            "my phone [shows no bars|says emergency calls only|cannot call] [since {day}|at home|]",
            "is there an outage in {city}? [nobody here can call|no internet at all|]",
            "calls [drop|break off] [all the time|after {n} minutes|in {city}]",
        ),
    ),
    "talk_to_agent": (
        3.0,
        PRODUCTS,
        (
            "[can I|let me|I want to] [speak to|talk to|chat with] [a human|a real person|somebody]",
            "please call me [back|] [on {day}|today], [the bot does not help|I need a person]",
            "is there a [phone number|hotline] [where I can call you|for {product}|]?",
            "[agent please|human please|not a bot please]",
        ),
    ),
}

# They exist only after the drift.
NEW_INTENTS: dict[str, tuple[float, tuple[str, ...], tuple[str, ...]]] = {
    "passkey_setup": (
        14.0,
        (MAIL, BOOKS, PHONE),
        (
            "how do I [make|create|register] a passkey [on {device}|for {product}|]?",
            "the passkey [is not recognised|does not work|vanished] [on {device2}|after the update|]",
            "I want to [sign in with my face|use my fingerprint|go passwordless] [on {device}|], [where is that|how]?",
            "can I [keep|use] [two passkeys|a hardware key] [for {product}|]?",
        ),
    ),
    "assistant_wrong_answer": (
        14.0,
        PRODUCTS,
        (
            "your [AI assistant|copilot|smart helper] [made that up|told me nonsense|gave a wrong answer] [about {thing}|]",
            "the assistant [summarised it wrongly|invented {amount}|quoted an order that does not exist]",
            "how do I [switch off|disable|hide] the [AI|smart] [suggestions|replies|assistant] [in {product}|]?",
            "the [copilot|AI] [wrote to my customer|answered for me] [without asking|with wrong facts], [stop it|]",
        ),
    ),
}

# Truly ambiguous: a person would have to ask back. The label is a coin's choice between the two.
AMBIGUOUS: tuple[tuple[str, str, str], ...] = (
    ("I can't get in [anymore|since {day}|], [please help|what now]", "reset_password", "locked_account"),
    ("login [does not work|fails] [on {device}|since {day}|]", "two_factor_problem", "locked_account"),
    ("there is a problem with [the payment|my payment] [of {amount}|for {month}|]", "charged_twice", "payment_declined"),
    ("[about|question about] my refund [of {amount}|for order {order}|]", "request_refund", "refund_status"),
    ("my [order {order}|parcel] is not here [yet|]", "track_order", "delivery_late"),
    ("something is wrong with [the {item}|order {order}]", "damaged_item", "wrong_item"),
    ("I do not want [the {item}|order {order}] [anymore|after all]", "return_item", "request_refund"),
    ("I want to [stop|quit] {product}", "cancel_subscription", "close_account"),
    ("{product} [does not work|is not working] [since {day}|on {device}|]", "app_crash", "slow_service"),
    ("[nothing works|it does not work] [in {city}|here] [since {day}|]", "no_signal", "sim_activation"),
    ("no internet [abroad|on my trip|on holiday]", "roaming", "no_signal"),
    ("my [card|bank card] [changed|is not accepted anymore]", "update_payment_method", "payment_declined"),
    ("[some|many] of my [mails|entries] are [gone|not there]", "sync_problem", "export_data"),
    ("my [details|contact details] [changed|are wrong], [please update|]", "change_email", "change_address"),
    ("the price [is not right|is wrong] [for {month}|at checkout|]", "discount_code_problem", "change_plan"),
)

OPENERS = ("hi,", "hello,", "hey", "good morning,", "dear team,", "hi there,", "sorry to bother you,", "quick question:")
FOREIGN_OPENERS = ("hola,", "guten Tag,", "bonjour,", "ciao,", "buenas,", "moin,")
CLOSERS = ("thanks", "thank you!", "please help", "asap please", "this is urgent", "any idea?", "regards, {name}", "{name}")
FOREIGN_CLOSERS = ("gracias", "danke", "merci", "por favor", "bitte schnell", "grazie mille", "vielen Dank, {name}")
ASIDES = (
    "I have been a customer for {n} years.",
    "I use {product} on {device}.",
    "I already wrote on {day}.",
    "My customer number is {order}.",
    "I tried it on {device} too.",
    "My colleague {name} has the same.",
)
# Said about anything, and a word of another intent in it: what makes a bag of words fail.
DISTRACTORS = (
    "The invoice is fine, by the way.",
    "The password is not the problem.",
    "I do not want a refund.",
    "The last order came quickly.",
    "I paid on time.",
    "The app itself runs well.",
    "Please do not call me.",
)

# After the drift people say it in other words.
NEW_WORDS = {
    "password": "passcode",
    "refund": "moneyback",
    "invoice": "e-bill",
    "order": "drop",
    "parcel": "shipment",
    "subscription": "membership",
    "plan": "bundle",
    "app": "superapp",
    "account": "workspace",
    "card": "wallet",
    "code": "token",
    "phone": "foldable",
    "Inkwell Mail": "Inkwell One",
    "Ledgerly": "Ledgerly Flow",
}
DRIFTED_WEIGHTS = {"track_order": 0.4, "request_refund": 0.5, "reset_password": 0.3, "roaming": 3.0, "change_plan": 2.5}

SLOTS: dict[str, tuple[str, ...]] = {
    "name": ("Amara", "Jonas", "Mei", "Luca", "Fatima", "Piotr", "Noor", "Sofia", "Kwame", "Elif", "Oskar", "Priya"),
    "city": ("Leipzig", "Porto", "Gdansk", "Lyon", "Cork", "Malmö", "Graz", "Bologna", "Utrecht", "Zadar"),
    "country": ("Norway", "Turkey", "Brazil", "Japan", "Switzerland", "Morocco", "Canada", "Thailand"),
    "day": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday", "the 3rd", "the 21st"),
    "month": ("January", "February", "March", "April", "May", "June", "July", "August", "October", "November"),
    "item": ("kettle", "backpack", "desk lamp", "headset", "jacket", "blender", "keyboard", "rug", "mirror", "suitcase"),
    "device": ("my iPhone", "Android", "my laptop", "the tablet", "Windows", "my Mac", "the browser", "my new phone"),
    "thing": ("the inbox", "settings", "the calendar", "reports", "the cart", "search", "the start page", "contacts"),
    "plan": ("Basic", "Plus", "Family", "Team", "Pro", "Business"),
    "code": ("SPRING10", "WELCOME5", "LOYAL20", "MAY15"),
    "email": ("a.berg@example.org", "info@example.com", "meiling@example.net", "team@example.org"),
}

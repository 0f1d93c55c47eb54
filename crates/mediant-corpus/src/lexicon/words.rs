//! The words, one string a sort. "a" fits before each noun and adjective, and every word becomes one BPE token.

use super::Class;

/// Female first names.
pub(super) const FEMALE: &str = "\
    Mary Anna Emma Sarah Alice Julia Laura Linda Susan Karen Nancy Lisa Betty Helen Sandra Donna Carol Ruth Sharon \
    Amy Angela Diana Emily Hannah Jane Kate Lucy Megan Nina Olivia Paula Rachel Tina Vera Wendy Zoe Clara Ella \
    Fiona Gina Irene Judy Kelly Lily Molly Nora Rosa Tara Eva Martha Alma Bella Cindy Ellen Heidi Maria Monica \
    Sally Sonia Jenny";

/// Male first names.
pub(super) const MALE: &str = "\
    John James David Daniel Michael Robert William Thomas Charles George Paul Mark Kevin Brian Steven Edward Jason \
    Peter Henry Frank Jack Adam Oscar Simon Victor Walter Arthur Carl Dennis Eric Felix Gary Harry Ian Jacob Keith \
    Leon Martin Nathan Oliver Patrick Ralph Samuel Tim Aaron Ben Colin Derek Evan Fred Greg Hugo Ivan Joel Kyle \
    Luke Max Noah Roger Sean";

/// People by what they are, female/male.
pub(super) const ROLES: &str = "\
    girl/boy woman/man queen/king mother/father sister/brother daughter/son wife/husband \
    niece/nephew princess/prince lady/gentleman grandmother/grandfather mom/dad";

/// Nouns, singular/plural.
pub(super) const NOUNS: &str = "\
    key/keys cabinet/cabinets lamp/lamps table/tables box/boxes chair/chairs door/doors window/windows \
    picture/pictures letter/letters book/books bottle/bottles basket/baskets hat/hats coat/coats shoe/shoes \
    ring/rings car/cars boat/boats truck/trucks bike/bikes clock/clocks cup/cups plate/plates tree/trees \
    flower/flowers house/houses bridge/bridges tower/towers road/roads river/rivers garden/gardens teacher/teachers \
    doctor/doctors farmer/farmers driver/drivers guard/guards painter/painters singer/singers nurse/nurses \
    lawyer/lawyers student/students friend/friends dog/dogs cat/cats horse/horses bird/birds cow/cows duck/ducks \
    rabbit/rabbits apple/apples bag/bags bell/bells branch/branches candle/candles card/cards cloud/clouds \
    desk/desks fence/fences finger/fingers forest/forests guest/guests hammer/hammers island/islands lake/lakes \
    leaf/leaves mirror/mirrors mountain/mountains pencil/pencils pilot/pilots sailor/sailors spoon/spoons \
    tiger/tigers wheel/wheels";

/// What people give and own.
pub(super) const OBJECTS: &str = "\
    drink book letter ring ball gift cake hat lamp bottle basket picture flower toy map coin \
    pen kite coat key";

/// Where people go.
pub(super) const PLACES: &str = "\
    store park school market beach library kitchen office station museum hospital restaurant \
    church farm theater zoo garden house";

/// Adjectives for people.
pub(super) const MOODS: &str = "\
    happy sad tired hungry cold kind brave young tall rich lost late sick quiet";

/// Adjectives for anything.
pub(super) const QUALITIES: &str = "\
    red blue green new big small clean dirty heavy bright dark broken white black";

/// What lasts some years. The grammar has no such sentences; prompts do.
pub(super) const EVENTS: &str = "\
    war siege plan study contract journey project marriage campaign trial strike reign conflict program \
    partnership expedition crisis dispute debate experiment friendship rebellion revolution alliance truce survey \
    mission investigation negotiation drought";

/// Countries and their capitals, one word each.
pub(super) const CAPITALS: &str = "\
    France/Paris Italy/Rome Spain/Madrid Germany/Berlin England/London Russia/Moscow \
    China/Beijing Japan/Tokyo Egypt/Cairo Greece/Athens Turkey/Ankara Poland/Warsaw \
    Austria/Vienna Hungary/Budapest Portugal/Lisbon Ireland/Dublin Norway/Oslo Sweden/Stockholm \
    Finland/Helsinki Denmark/Copenhagen Belgium/Brussels Switzerland/Bern Canada/Ottawa \
    Cuba/Havana Peru/Lima Chile/Santiago Kenya/Nairobi Ghana/Accra Nigeria/Abuja Senegal/Dakar \
    Morocco/Rabat Libya/Tripoli Iran/Tehran Iraq/Baghdad Syria/Damascus Lebanon/Beirut \
    Thailand/Bangkok Vietnam/Hanoi Korea/Seoul Qatar/Doha Oman/Muscat Ukraine/Kyiv \
    Romania/Bucharest Bulgaria/Sofia Serbia/Belgrade Croatia/Zagreb Latvia/Riga Cyprus/Nicosia \
    Uganda/Kampala Mali/Bamako";

/// Words that stand literally in templates, or that a slot chooses between.
pub(super) const LITERALS: [(Class, &str); 9] = [
    (Class::Determiner, "The the a My"),
    (Class::Pronoun, "I We we You you Everyone There It that who"),
    (Class::Conjunction, "When While After Before As Once Because If and but so because when while after before as"),
    (Class::Adverb, "Then Today Now Here Yesterday there here home always plus"),
    (Class::Preposition, "to for at with from in of near In Near At by"),
    (Class::Number, "one two three four five"),
    (Class::Adjective, "main equal long tired happy"),
    (Class::Noun, "capital city king queen sum day hello name people dinner house friends"),
    (
        Class::Verb,
        "went was were met sat had left came worked walked gave handed give showed sold decided \
         wanted sent bought brought said passed offered is are has have lives flew stayed visited \
         moved live know knows likes lost smiled ran slept found saw called helped thanked think thinks \
         add get make like see find",
    ),
];

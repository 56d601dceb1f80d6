"""Made-up persons and numbers of the demo. Card numbers are the public test numbers of card schemes."""

from typing import Final

CITIES: Final = ("Lyon", "Gent", "Turin", "Porto", "Graz")
NAMES: Final = ("Claire Moreau", "Jonas Keller", "Maria Conti", "Tomas Silva", "Anna Gruber")
STREETS: Final = ("12 rue des Lilas", "Lindenweg 8", "Via Roma 41", "Rua das Flores 7", "Hauptplatz 3")
CARDS: Final = ("4111111111111111", "5555555555554444", "378282246310005")
FIRST_ORDER: Final = 100_001
PASSWORD: Final = "correct horse battery"  # Of every honest customer.
HOST: Final = "api.shop.example"  # By which clients outside call the gateway.

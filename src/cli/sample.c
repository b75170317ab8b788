/* SPDX-License-Identifier: Apache-2.0 */
/* sample.c - see sample.h.  Enough for a first impression; nothing replaces one's own data. */
#include "cli/sample.h"

#include "base/text.h"

static const struct {
    const char *query, *answer;
} topics[RR_SAMPLE_LISTS] = {
    { "Comment lutter contre le mildiou de la tomate ?",
      "Contre le mildiou de la tomate, on espace les plants, on arrose au pied sans mouiller "
      "les feuilles et l'on retire celles qui brunissent. Une bouillie bordelaise légère "
      "protège pendant les semaines humides." },
    { "How long should bread dough rise?",
      "A dough with two per cent of fresh yeast doubles in about ninety minutes at 24 "
      "degrees. In a refrigerator it rises overnight and tastes better for it; the finger "
      "test tells when it is ready." },
    { "Délai de préavis pour un logement meublé",
      "Le locataire d'un logement meublé peut partir à tout moment avec un préavis d'un "
      "mois, donné par lettre recommandée, par acte d'huissier ou remis en main propre "
      "contre récépissé." },
    { "What causes the northern lights?",
      "Charged particles from the sun follow the magnetic field of the earth towards the "
      "poles. Where they meet oxygen and nitrogen high above the ground the gases glow "
      "green, red and violet." },
    { "Quelle pression pour les pneus d'un vélo de route ?",
      "Pour un pneu de route de 28 millimètres et un cycliste de 75 kilogrammes, cinq bars "
      "suffisent. Plus le pneu est large, plus la pression baisse ; trop gonflé, il rebondit "
      "et accroche moins." },
    { "How does a heat pump work in winter?",
      "A heat pump evaporates a refrigerant with the little warmth of the outside air, "
      "compresses the vapour, which heats it, and gives that heat to the water of the "
      "radiators. At minus ten degrees it still yields more than twice the electricity it "
      "uses." },
    { "À quel âge sevrer un veau ?",
      "Le veau laitier est sevré vers huit à dix semaines, quand il mange au moins un "
      "kilogramme d'aliment concentré par jour pendant plusieurs jours de suite. La "
      "transition se fait en une semaine." },
    { "Remove a red wine stain from linen",
      "Blot fresh wine at once, never rub. Pour sparkling water over the linen, cover the "
      "spot with salt, and wash it after an hour at sixty degrees with a detergent that "
      "contains bleach." },
    { "Rendement du blé tendre en agriculture biologique",
      "En agriculture biologique, le blé tendre rend trente à quarante quintaux à l'hectare, "
      "à peu près la moitié d'une conduite conventionnelle ; l'azote laissé par la luzerne "
      "fait la différence entre les parcelles." },
    { "Why do cats purr?",
      "Cats purr when they are content, but also when they are hurt. The vibration, at 25 to "
      "150 hertz, comes from muscles of the larynx and may help bones and wounds to heal." },
    { "Comment déclarer la naissance d'un enfant ?",
      "La naissance se déclare à la mairie du lieu de naissance dans les cinq jours, avec le "
      "certificat de l'accouchement, une pièce d'identité des parents et, s'il existe, le "
      "livret de famille." },
    { "Maximum depth of the Mariana Trench",
      "The deepest known place of the oceans, the Challenger Deep in the Mariana Trench, "
      "lies about 10,935 metres below the surface of the western Pacific." },
    { "Faut-il tailler les rosiers en automne ?",
      "Les rosiers buissons se taillent à la fin de l'hiver, avant le départ de la "
      "végétation. En automne on raccourcit seulement les longues tiges pour que le vent "
      "n'ébranle pas le pied." },
    { "What is the boiling point of water on Mount Everest?",
      "On the summit of Everest the air pressure is a third of that at the sea, and water "
      "boils at about 70 degrees Celsius: too cool for a good cup of tea." },
    { "Symptômes d'une carence en fer",
      "Fatigue, pâleur, souffle court à l'effort, ongles cassants et chute de cheveux font "
      "penser à un manque de fer ; le dosage de la ferritine dans le sang le confirme." },
    { "How to restore a corrupted database from a backup",
      "Stop the server, move the damaged data directory aside, unpack the last full backup "
      "in its place and replay the write-ahead log up to the moment before the fault. Check "
      "the tables before clients return." },
    { "Distance de sécurité sur autoroute",
      "Sur autoroute, l'écart entre deux véhicules est d'au moins deux secondes, soit "
      "environ soixante-treize mètres à 130 kilomètres à l'heure : deux traits de la bande "
      "d'arrêt d'urgence." },
    { "Which planets have rings?",
      "Saturn is not alone: Jupiter, Uranus and Neptune have rings as well, but they are "
      "dark and thin and were found only by occultations and space probes." },
    { "Conserver des pommes tout l'hiver",
      "Les pommes tardives se gardent jusqu'au printemps dans une cave fraîche et humide, à "
      "quatre degrés, posées sur des claies sans se toucher et loin des pommes de terre." },
    { "Side effects of ibuprofen",
      "Ibuprofen may upset the stomach and, taken for long, cause ulcers; it raises blood "
      "pressure and strains the kidneys. It is not given in the last three months of a "
      "pregnancy." },
    { "Comment fonctionne le vote par procuration ?",
      "L'électeur absent désigne un mandataire, qui vote à sa place dans son propre bureau. "
      "La procuration s'établit en ligne puis se valide au commissariat ou à la gendarmerie." },
    { "How do noise-cancelling headphones work?",
      "Small microphones pick up the noise around the ear, and a processor plays the same "
      "sound with its sign reversed. The two waves cancel; steady low tones vanish best." },
    { "Quelles abeilles hivernent en grappe ?",
      "Les abeilles mellifères passent l'hiver serrées en grappe autour de la reine et "
      "chauffent le centre à vingt-cinq degrés en faisant vibrer leurs muscles ; les "
      "bourdons, eux, meurent à l'automne, sauf les jeunes reines." },
    { "Rules for stalemate in chess",
      "When the side to move has no legal move and its king is not in check, the game is "
      "drawn by stalemate at once, however large the advantage of the other side." },
};

void rr_sample_list(uint32_t i, struct rr_text *query, struct rr_text docs[RR_SAMPLE_DOCS],
                    long *relevant)
{
    uint32_t place = i * 7 % RR_SAMPLE_DOCS, d; /* of the answer: not always the same */

    *query = rr_text(topics[i].query);
    *relevant = (long)place;
    for (d = 0; d < RR_SAMPLE_DOCS; d++)
        docs[d] = rr_text(topics[(i + RR_SAMPLE_LISTS + d - place) % RR_SAMPLE_LISTS].answer);
}

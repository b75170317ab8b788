"""Hand-written everyday queries with four passages each; the first passage is the right one."""

SMOKE = [
    ("Comment installer un serveur web ?", [
        "L'installation d'un serveur web comme nginx se fait avec le gestionnaire de paquets, puis on démarre le service.",
        "Le serveur du restaurant apporte la carte et prend la commande.",
        "La recette du gâteau au chocolat demande trois œufs et du beurre.",
        "Les horaires d'ouverture de la bibliothèque changent en été."]),
    ("délai de rétractation achat en ligne", [
        "Le consommateur dispose de quatorze jours pour se rétracter après un achat effectué en ligne, sans avoir à se justifier.",
        "La garantie légale de conformité couvre les défauts pendant deux ans.",
        "Le magasin est ouvert du lundi au samedi de neuf heures à dix-neuf heures.",
        "Le paiement par carte bancaire est sécurisé."]),
    ("Comment changer mon mot de passe ?", [
        "Pour modifier votre mot de passe, ouvrez les paramètres du compte puis choisissez Sécurité.",
        "Le train passe toutes les heures en direction de Lyon.",
        "Cette imprimante accepte les formats A4 et A3.",
        "Votre facture est disponible dans l'espace client."]),
    ("quelle est la capitale de la France", [
        "Paris est la capitale de la France et sa ville la plus peuplée.",
        "La Loire est le plus long fleuve de France.",
        "Berlin est une grande ville d'Allemagne.",
        "Le capital social d'une entreprise est fixé par ses statuts."]),
    ("horaires d'ouverture de la mairie", [
        "La mairie est ouverte du lundi au vendredi, de 8 h 30 à 17 h.",
        "Le maire a inauguré la nouvelle école samedi dernier.",
        "L'ouverture du fichier échoue si le format est inconnu.",
        "Les horaires des trains sont affichés en gare."]),
    ("Comment faire cuire des pâtes ?", [
        "Plongez les pâtes dans l'eau bouillante salée ; la cuisson prend environ dix minutes.",
        "Le pain se conserve dans un torchon propre.",
        "Les pattes du chat sont blanches.",
        "Pour faire une réclamation, écrivez au service client."]),
    ("remboursement des frais de transport", [
        "L'employeur rembourse la moitié de l'abonnement de transport en commun du salarié.",
        "Les frais de dossier de la banque s'élèvent à cent euros.",
        "Le transport des animaux vivants est soumis à autorisation.",
        "Le service commercial répond sous deux jours."]),
    ("logiciel pour retoucher des photos", [
        "GIMP est un programme de retouche d'images : il corrige les couleurs et recadre les photographies.",
        "Ce lecteur audio lit les formats MP3 et Ogg.",
        "Un tableur permet de faire des calculs dans des tableaux.",
        "Le photographe reçoit ses clients sur rendez-vous."]),
    ("how do I reset my password", [
        "To reset your password, click on the link we sent to your e-mail address and choose a new password.",
        "Our shop opens at nine in the morning.",
        "The river flows through three countries.",
        "Passports are issued by the town hall."]),
    ("best way to back up files", [
        "Regular backups protect your files: copy them to an external disk or use a backup program.",
        "The back door of the house was painted green.",
        "This game has twelve levels and three bosses.",
        "Filing your tax return takes about an hour."]),
    ("What is the boiling point of water?", [
        "Water boils at 100 degrees Celsius at sea level.",
        "The meeting point is in front of the station.",
        "Drink at least one litre of juice a day.",
        "The water company sends a bill every month."]),
    ("symptoms of the flu", [
        "Flu symptoms include fever, headache, sore throat and tiredness.",
        "The flue of the chimney must be swept every year.",
        "Flights to London leave from terminal two.",
        "A healthy diet contains fruit and vegetables."]),
    ("éditeur de texte", [
        "A text editor with syntax highlighting for many programming languages.",
        "A web browser for the GNOME desktop.",
        "An arcade game where you shoot at asteroids.",
        "A library to resize pictures."]),
    ("music player for the command line", [
        "Ce lecteur de musique s'utilise en ligne de commande.",
        "Ce traitement de texte exporte au format PDF.",
        "Ce paquet fournit des polices de caractères arabes.",
        "Ce programme surveille la température du processeur."]),
]

"""Text in Spanish that people did not write: packages' French, Portuguese and Italian translations
put into Spanish by Apertium (rules and dictionaries, GPL), which is in Debian.

People translated fewer packages into Spanish than into any other language here, and all were asked
so often that they were known by heart.  This is twenty-five times as many, in a language of its own,
"es~": documents of a list are either in people's or in Apertium's Spanish, or one could be told from
the other.  The neighbouring languages give better Spanish than English does.  For training only.

    apt-get install apertium apertium-fr-es apertium-es-pt apertium-spa-ita cg3
"""
import os
import re
import shutil
import subprocess
import sys

import data
import manual

MACHINE = "es~"
LONG = 600  # characters of a long description; lists have the first 400, passages a little more

# Of which text Spanish is made, the best first: language, Apertium's mode
WAYS = ("fr", "fr-es"), ("pt", "pt-es"), ("it", "ita-spa")

# What Apertium does not know, as Debian's Spanish texts say it, or mistakes for something else.
UNKNOWN = {
    "fr": """greffon=complemento greffons=complementos utilitaires=utilidades utilitaire=utilidad
        cadriciel=entorno œuvre=obra débogage=depuración interpréteur=intérprete analyseur=analizador
        métapaquet=metapaquete courriel=correo courriels=correos inclut=incluye incluant=incluyendo
        métadonnées=metadatos bureautique=ofimática encodage=codificación
        multiplateforme=multiplataforma modulaire=modular applicatif=aplicación
        chiffrement=cifrado programmeurs=programadores processeur=procesador
        vérificateur=verificador émulateur=emulador statiques=estáticas statique=estático
        préprocesseur=preprocesador logicielle=lógica grappe=clúster évènements=eventos
        évènement=evento synchronisation=sincronización orthographe=ortografía
        connecter=conectar visualisateur=visor graphes=grafos convertisseur=conversor
        journalisation=registro amorçage=arranque désassemblage=desensamblado débogueur=depurador
        inactives=inactivas intégration=integración integration=integración""",
    "pt": """utilitários=utilidades utilitário=utilidad gerenciador=gestor áudio=audio mídia=medios
        metapacote=metapaquete emulador=emulador visualizador=visor arquitetura=arquitectura
        introspecção=introspección inicialização=inicio suíte=conjunto criptografia=criptografía
        extensível=extensible emulação=emulación analisador=analizador cabeçalhos=cabeceras
        cabeçalho=cabecera interpretador=intérprete metadados=metadatos xadrez=ajedrez
        interplataforma=multiplataforma portável=portable daemon=demonio lidar=tratar
        jogabilidade=jugabilidad""",
    "it": """plugin=complemento sorgente=fuente sorgenti=fuentes compilatore=compilador client=cliente
        profilazione=perfiles multipiattaforma=multiplataforma metapacchetto=metapaquete
        pacchettizzato=empaquetado analizzatore=analizador analizzatori=analizadores
        stringhe=cadenas stringa=cadena gestore=gestor abilita=habilita richiamando=llamando
        portabile=portable predefinito=predeterminado predefinita=predeterminada
        predefiniti=predeterminados predefinite=predeterminadas metadati=metadatos insiemi=conjuntos
        estensibile=extensible multimediale=multimedia grafi=grafos decodifica=decodificación
        formattati=formateados visualizzatori=visores visualizzatore=visor
        caricatori=cargadores caricatore=cargador modulari=modulares modulare=modular
        decodificare=decodificar estrarre=extraer""",
}
MISTAKEN = {
    "fr": """ficheros=archivos fichero=archivo encargos=órdenes encargo=orden marchar=funcionar
        apresamiento=soporte despacho=escritorio concebido=diseñado concebida=diseñada
        deshielos=tipografías deshielo=tipografía line=línea informaciones=información
        softwares=programas anunciar=mostrar anuncia=muestra autentificación=autenticación
        computadores=ordenadores computador=ordenador acontecimientos=eventos
        acontecimiento=evento policías=tipografías repertorios=directorios repertorio=directorio
        cobertura=red audios=audio utilizado=usado utilizada=usada utilizando=usando
        utilizar=usar utiliza=usa utilizan=usan mero=simple mera=sencilla concepción=diseño
        almacenaje=almacenamiento ambiente=entorno prestación=rendimiento vuestro=su""",
    "pt": """suministra=proporciona suministran=proporcionan suministrar=proporcionar
        suministrando=proporcionando informaciones=información mandos=órdenes mando=orden
        ambiente=entorno ambientes=entornos proyectado=diseñado proyectada=diseñada
        normalizada=predeterminada normalizado=predeterminado leve=ligero email=correo
        veía=vea seña=contraseña señas=contraseñas exhibir=mostrar exhibe=muestra
        vínculos=enlaces desempeño=rendimiento exhibición=visualización llaves=claves llave=clave
        patrón=estándar patrones=estándares remover=eliminar verificador=corrector
        computador=ordenador""",
    "it": """librería=biblioteca librerías=bibliotecas abastece=proporciona abastecen=proporcionan
        abastecer=proporcionar filas=archivos fichero=archivo ficheros=archivos
        abejas=api formulario=módulo formularios=módulos
        informaciones=información instrumento=herramienta instrumentos=herramientas
        juntos=conjunto veloz=rápido acontecimientos=eventos acontecimiento=evento
        comando=orden comandos=órdenes elaboración=procesamiento insumo=entrada
        insumos=entradas recogida=colección ambiente=entorno ambientes=entornos
        adicciones=enlaces adicción=enlace recopilar=compilar recopilada=compilada
        recopilado=compilado apoyo=soporte apoya=admite proyectado=diseñado proyectada=diseñada
        autentificación=autenticación veloces=rápidos coches=máquinas modalidad=modo
        rendir=hacer rinde=hace usuaria=usuario""",
}
UNKNOWN, MISTAKEN = ({lang: dict(pair.split("=") for pair in pairs.split())
                      for lang, pairs in table.items()} for table in (UNKNOWN, MISTAKEN))
WORD = re.compile(r"[*]?[^\W\d_]+")


def like(model, word):
    """The word, with a capital where the model has one"""
    return word[0].upper() + word[1:] if model[0].isupper() else word


def mended(text, lang):
    """Apertium's output with Debian's words; what stays unknown stays as it was"""
    def word(m):
        w = m.group().lstrip("*")
        known = (UNKNOWN if m.group()[0] == "*" else MISTAKEN)[lang].get(w.lower())
        return like(w, known) if known else w
    return re.sub("[*#@~]", "", WORD.sub(word, text))


def line(text):
    """One line, without Apertium's own marks, that is not joined with the next"""
    whole = text if len(text) <= LONG else text[:LONG].rsplit(" ", 1)[0]
    return re.sub(r"[*#@~\s]+", " ", whole).strip() + " \n\n"


def translate(texts, lang, mode):
    """The texts, a line each, in Spanish"""
    if not shutil.which("apertium"):
        sys.exit("apertium is not installed: see the head of tools/starter/translated.py")
    done = subprocess.run(["apertium", mode], input="".join(map(line, texts)).encode(),
                          check=True, stdout=subprocess.PIPE).stdout.decode()
    rows = [r for r in done.split("\n") if r.strip()]
    assert len(rows) == len(texts), "%d lines for %d texts" % (len(rows), len(texts))
    return [re.sub(r"\s+", " ", mended(r, lang)).strip() for r in rows]


def source(entry):
    """(language, mode) of what an entry's Spanish is made of, or None"""
    return next((way for way in WAYS if way[0] in entry.text), None)


def make(entries):
    """{key: [short, long] in Spanish} of those that have a text to make it of"""
    out = {}
    for way in WAYS:
        some = [e for e in entries if source(e) == way]
        texts = translate([t for e in some for t in e.text[way[0]]], *way)
        for e, short, long in zip(some, texts[::2], texts[1::2]):
            out[key(e)] = [short, long]
    return out


def key(entry):
    """An entry's own: names occur in several releases"""
    return entry.name + "\n" + entry.text["en"][1]


def add(entries, work):
    """The entries, packages with their Spanish by Apertium, too"""
    packages = [e for e in entries if not manual.is_section(e)]
    found = data.cached(os.path.join(work, "translated.json"), lambda: make(packages))
    return [e._replace(text={**e.text, MACHINE: tuple(found[key(e)])})
            if not manual.is_section(e) and key(e) in found else e for e in entries]

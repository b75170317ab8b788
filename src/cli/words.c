/* SPDX-License-Identifier: Apache-2.0 */
/* words.c - what people read, in French.  Layer: cli (L6).  Threads: any. */
#include <string.h>

#include "cli/cli.h"

static const struct {
    const char *english, *french;
} words[] = {
    /* help */
    { "rerankd ranks passages by how well they answer a query.",
      "rerankd classe des passages selon leur pertinence pour une requête." },
    { "First steps:", "Premiers pas :" },
    { "answers POST /rerank on port 8002", "répond à POST /rerank sur le port 8002" },
    { "ranks the lines of a file", "classe les lignes d'un fichier" },
    { "says what this machine can do", "dit ce que cette machine peut faire" },
    { "Sub-commands:", "Sous-commandes :" },
    { "answer rerank requests over HTTP", "répondre aux requêtes de classement en HTTP" },
    { "score lines or JSONL against a query", "noter des lignes ou du JSONL pour une requête" },
    { "measure latency and throughput of a model on this machine",
      "mesurer latence et débit d'un modèle sur cette machine" },
    { "compare a precision with f32 on your own queries and documents",
      "comparer une précision à f32 sur vos requêtes et documents" },
    { "measure rankings on labelled data: nDCG, MRR, recall, MAP",
      "mesurer des classements sur données annotées : nDCG, MRR, rappel, MAP" },
    { "rank a TREC run or JSONL lists of any size",
      "classer un run TREC ou des listes JSONL de toute taille" },
    { "convert a model between safetensors and GGUF",
      "convertir un modèle entre safetensors et GGUF" },
    { "write a model folder in int8, bf16, f16 or f32",
      "écrire un dossier de modèle en int8, bf16, f16 ou f32" },
    { "say what this machine and model allow", "examiner cette machine et le modèle" },
    { "ask a running server whether it is ready", "demander à un serveur s'il est prêt" },
    { "send recorded requests to two servers and compare the replies",
      "envoyer des requêtes gardées à deux serveurs et comparer les réponses" },
    { "make, remove and list API keys", "faire, retirer et lister des clés d'API" },
    { "fetch a model from the Hugging Face hub", "télécharger un modèle du hub Hugging Face" },
    { "offer the tool rerank to assistants (Model Context Protocol)",
      "offrir l'outil rerank aux assistants (Model Context Protocol)" },
    { "print version, compiler and instruction sets",
      "afficher version, compilateur et jeux d'instructions" },
    { "show help about a sub-command", "expliquer une sous-commande" },
    { "More:", "Aussi :" },
    /* models */
    { "bge-reranker-v2-m3, -base, -large, jina-reranker-v2-base-multilingual, the starter model",
      "bge-reranker-v2-m3, -base, -large, jina-reranker-v2-base-multilingual, le modèle de "
      "démarrage" },
    { "RoBERTa cross-encoders", "cross-encodeurs RoBERTa" },
    { "CamemBERT cross-encoders", "cross-encodeurs CamemBERT" },
    { "ms-marco-MiniLM and -TinyBERT cross-encoders",
      "cross-encodeurs ms-marco-MiniLM et -TinyBERT" },
    { "mxbai-rerank-xsmall-v1 to -large-v1", "mxbai-rerank-xsmall-v1 à -large-v1" },
    { "Qwen3-Reranker, converted", "Qwen3-Reranker, converti" },
    { "rerankers on Qwen2 with a classifier", "reclasseurs sur Qwen2 avec un classifieur" },
    { "ettin-reranker-17m-v1 to -1b-v1 (modules.json)",
      "ettin-reranker-17m-v1 à -1b-v1 (modules.json)" },
    { "sentence-transformers' cross-encoders with modules.json",
      "cross-encodeurs de sentence-transformers avec modules.json" },
    { "F32, F16 and BF16", "F32, F16 et BF16" },
    { "F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_NL and "
      "IQ4_XS",
      "F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_NL et "
      "IQ4_XS" },
    /* score */
    { "rank", "rang" },
    { "score", "score" },
    { "text", "texte" },
    { "line", "ligne" },
    { "pairs", "paires" },
    { "left", "restant" },
    /* pull */
    { "in the cache", "dans le cache" },
    { "to fetch", "à télécharger" },
    { "in all", "en tout" },
    { "checking", "vérification" },
    { "checked", "vérifié" },
    { "waiting:", "en attente :" },
    { "another download", "un autre téléchargement" },
    /* doctor */
    { "Machine", "Machine" },
    { "Processor", "Processeur" },
    { "Features", "Extensions" },
    { "Instruction set", "Jeu d'instructions" },
    { "Threads", "Fils" },
    { "Memory nodes", "Nœuds mémoire" },
    { "Memory", "Mémoire" },
    { "GPU", "GPU" },
    { "Files", "Fichiers" },
    { "Cache folder", "Dossier de cache" },
    { "Model folder", "Dossier du modèle" },
    { "Model", "Modèle" },
    { "Architecture", "Architecture" },
    { "Parameters", "Paramètres" },
    { "Longest pair", "Paire la plus longue" },
    { "Device", "Calcul" },
    { "Memory plan", "Plan de mémoire" },
    { "Service", "Service" },
    { "Port", "Port" },
    { "ready to serve", "prêt à servir" },
    { "not ready to serve:", "pas prêt à servir :" },
    { "remedy:", "remède :" },
    { "warning:", "attention :" },
    { "available", "disponibles" },
    { "free", "libre" },
    { "not free", "pas libre" },
    { "writable", "accessible en écriture" },
    { "will be made", "sera créé" },
    { "cannot be written", "non accessible en écriture" },
    { "none: tokenizers are compiled at each start", "aucun : compilation à chaque démarrage" },
};

const char *rr_tr(bool french, const char *english)
{
    size_t i;

    for (i = 0; french && i < RR_COUNT(words); i++) {
        if (strcmp(words[i].english, english) == 0) return words[i].french;
    }
    return english;
}

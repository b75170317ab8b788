-- http.lua - one rerank request again and again, for wrk: DOCS documents of CHARS characters.
-- FORM: plain (ASCII), utf8 (French with its accents), escaped (the same written as \u00e9, as many
-- clients do).  DELAY: milliseconds that each connection waits before a request.
local words = { "serveur", "libre", "réseau", "passage", "document", "clé", "texte", "modèle", "Apache",
                "configurer", "paquet", "noyau" }
local plain = { ["é"] = "e", ["è"] = "e" }
local escaped = { ["é"] = "\\u00e9", ["è"] = "\\u00e8" }
local form = os.getenv("FORM") or "plain"
local count, chars = tonumber(os.getenv("DOCS") or 20), tonumber(os.getenv("CHARS") or 500)
local pause = tonumber(os.getenv("DELAY") or 0)

local function length(s) -- in characters
    return #s:gsub("[\128-\191]", "")
end

local function text(seed)
    local out, n, k = {}, 0, seed
    while n < chars do
        k = (k * 7 + seed + n) % #words
        local word = n + length(words[k + 1]) <= chars and words[k + 1] .. " " or "."
        out[#out + 1] = word
        n = n + length(word)
    end
    local s = table.concat(out)
    if form == "plain" then s = s:gsub("[éè\195\168\169]+", plain) end
    if form == "escaped" then s = s:gsub("\195[\168\169]", escaped) end
    return '"' .. s .. '"'
end

local documents = {}
for i = 1, count do documents[i] = text(i) end
wrk.method = "POST"
wrk.path = "/v1/rerank"
wrk.headers["Content-Type"] = "application/json"
wrk.body = '{"query":"Comment installer un serveur web ?","documents":[' ..
           table.concat(documents, ",") .. "]}"

if pause > 0 then
    function delay() return pause end
end

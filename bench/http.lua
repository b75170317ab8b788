-- http.lua - one rerank request again and again, for wrk: DOCS documents of CHARS characters.
-- FORM: plain (ASCII), utf8 (French with its accents), escaped (the same written as \u00e9, as many
-- clients do).  DELAY: milliseconds that each connection waits before a request.
local words = { "serveur", "libre", "réseau", "passage", "document", "clé", "texte", "modèle", "Apache",
                "configurer", "paquet", "noyau" }
local plain = { ["é"] = "e", ["è"] = "e" }
local escaped = { ["é"] = "\\u00e9", ["è"] = "\\u00e8" }
local form = os.getenv("FORM") or "plain"
local count, chars = tonumber(os.getenv("DOCS") or 20), tonumber(os.getenv("CHARS") or 500)

local function length(s) -- in characters
    return #s:gsub("[\128-\191]", "")
end

local function text(seed)
    local out, k = { seed .. " " }, seed
    local n = #out[1]
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

local head = '{"query":"Comment installer un serveur web ?'
local tail = '","documents":[' .. table.concat(documents, ",") .. "]}"
wrk.body = head .. tail

if os.getenv("UNIQUE") then
    local n = 0
    function request()
        n = n + 1
        return wrk.format(nil, nil, nil, head .. n .. tail)
    end
end

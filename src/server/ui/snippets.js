// SPDX-License-Identifier: Apache-2.0
// snippets.js - a request as a shell command and as a Python program that anybody can run.
// A key is never written out: both take it from the environment.

// The body in a document of the shell whose end is quoted, so that nothing in it means anything.  JSON
// of several lines has no line that is only the word of the end.
function curlSnippet(url, body, withKey) {
  const lines = [`curl -sS '${url.replace(/'/g, "'\\''")}' \\`, "  -H 'Content-Type: application/json' \\"];
  if (withKey) lines.push('  -H "Authorization: Bearer $RERANKD_API_KEY" \\');
  lines.push("  --data-binary @- <<'JSON'", JSON.stringify(body, null, 2), "JSON");
  return lines.join("\n") + "\n";
}

// Strings of JSON are strings of Python; the words for true, false and none are not the same.
function pythonValue(value, indent) {
  const deeper = indent + "    ";
  if (Array.isArray(value)) {
    if (!value.length) return "[]";
    return "[\n" + value.map((x) => deeper + pythonValue(x, deeper) + ",\n").join("") + indent + "]";
  }
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  return JSON.stringify(value);
}

function pythonSnippet(url, body, withKey) {
  const { query, documents, ...rest } = body;
  const fields = ['"query": query', '"documents": documents'];
  for (const [key, value] of Object.entries(rest)) fields.push(`"${key}": ${pythonValue(value, "    ")}`);
  return `import json
${withKey ? "import os\n" : ""}import urllib.request

query = ${pythonValue(query, "")}
documents = ${pythonValue(documents, "")}
request = urllib.request.Request(
    ${JSON.stringify(url)},
    data=json.dumps({${fields.join(", ")}}).encode(),
    headers={"Content-Type": "application/json"${withKey
    ? ',\n             "Authorization": "Bearer " + os.environ["RERANKD_API_KEY"]' : ""}},
)
with urllib.request.urlopen(request, timeout=60) as reply:
    for result in json.load(reply)["results"]:
        print(f"{result['relevance_score']:.6f}  {documents[result['index']]}")
`;
}

// Shows openapi.json with Swagger UI, and the table of its x-codes. Requests that are tried go to this origin, with the cookies of a sign-in.
"use strict";

// text returns the node of a text in which `code` is marked as in Markdown.
function text(markdown) {
  const fragment = document.createDocumentFragment();
  String(markdown).split("`").forEach((part, i) => {
    const node = i % 2 ? document.createElement("code") : document.createTextNode(part);
    node.textContent = part;
    fragment.append(node);
  });
  return fragment;
}

function showCodes(codes) {
  const rows = document.querySelector("#codes tbody");
  for (const [code, { status, means, do: action }] of Object.entries(codes)) {
    const row = rows.insertRow();
    row.id = "code-" + code;
    for (const cell of [status.join(", "), "`" + code + "`", means, action]) {
      row.insertCell().append(text(cell));
    }
  }
}

async function show() {
  const response = await fetch("/api/openapi.json");
  const spec = await response.json();
  SwaggerUIBundle({
    spec,
    dom_id: "#operations",
    deepLinking: true,
    defaultModelsExpandDepth: 0,
    displayRequestDuration: true,
    docExpansion: "list",
    validatorUrl: null,
    withCredentials: true,
  });
  showCodes(spec["x-codes"]);
}

show();

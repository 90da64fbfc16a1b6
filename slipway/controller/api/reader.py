"""The OpenAPI document for people, at /docs: one page without anything from elsewhere, since servers stand in networks
that reach nothing, and pages that load code from other sites run that code with their reader's credential."""

from __future__ import annotations

import base64
import hashlib

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; color: #1c2733 }
h1 { margin-bottom: 0 } h2 { margin-top: 2rem; text-transform: capitalize; border-bottom: 1px solid #d5dce3 }
summary { cursor: pointer; padding: .3rem 0 }
pre { background: #f3f6f9; padding: .8rem; overflow: auto; font-size: 13px }
code { font-size: 13px } .verb { display: inline-block; width: 4.5rem; font-weight: 600 } .quiet { color: #64748b }
td { padding: .1rem 1rem .1rem 0; vertical-align: top } input { width: 100%; padding: .4rem; font: inherit }
@media (prefers-color-scheme: dark) {
  body { background: #10161d; color: #dbe4ec } pre { background: #1a232d } h2 { border-color: #2c3844 }
}
"""
SCRIPT = """
const make = (tag, text, kind) => {
  const made = document.createElement(tag);
  if (text) made.textContent = text;
  if (kind) made.className = kind;
  return made;
};
const resolve = (all, part, depth) => {
  if (Array.isArray(part)) return part.map(one => resolve(all, one, depth));
  if (part === null || typeof part !== 'object') return part;
  if (part.$ref) {
    const name = part.$ref.split('/').pop();
    return depth > 3 ? name : resolve(all, all.components.schemas[name], depth + 1);
  }
  return Object.fromEntries(Object.entries(part).map(([key, inner]) => [key, resolve(all, inner, depth)]));
};
const schemas = (all, content) => Object.entries(content || {}).map(([type, found]) => {
  const shown = found.example ? { example: found.example, schema: found.schema } : found.schema;
  const pre = make('pre', type + '\\n' + JSON.stringify(resolve(all, shown, 0), null, 2));
  return pre;
});
const row = (...cells) => {
  const made = make('tr'); cells.forEach(cell => made.append(make('td', cell)));
  return made;
};
const operation = (all, path, verb, one) => {
  const made = make('details');
  const head = make('summary');
  head.append(make('span', verb.toUpperCase(), 'verb'), make('code', path), make('span', '  ' + one.summary, 'quiet'));
  made.append(head, make('p', one.description));
  if (one.parameters) {
    const table = make('table');
    one.parameters.forEach(it => table.append(
      row(it.name, it.in + (it.required ? ', required' : ''), it.schema.type || '', it.description || '')));
    made.append(table);
  }
  if (one.requestBody) made.append(make('h4', 'Body'), ...schemas(all, one.requestBody.content));
  Object.entries(one.responses).forEach(([status, answer]) => {
    const isProblem = answer.content && answer.content['application/problem+json'];
    made.append(make('h4', status + ' ' + answer.description));
    if (!isProblem) made.append(...schemas(all, answer.content));
  });
  made.dataset.words = (verb + ' ' + path + ' ' + one.summary).toLowerCase();
  return made;
};
fetch('openapi.json').then(answer => answer.json()).then(all => {
  document.querySelector('h1').textContent = all.info.title;
  document.querySelector('#about').textContent = all.info.description;
  const room = document.querySelector('main');
  all.tags.forEach(tag => {
    room.append(make('h2', tag.name), make('p', tag.description, 'quiet'));
    Object.entries(all.paths).forEach(([path, verbs]) => Object.entries(verbs).forEach(([verb, one]) => {
      if (one.tags[0] === tag.name) room.append(operation(all, path, verb, one));
    }));
  });
});
document.querySelector('input').addEventListener('input', typed => {
  const words = typed.target.value.toLowerCase();
  document.querySelectorAll('details').forEach(one => { one.hidden = !one.dataset.words.includes(words) });
});
"""
PAGE = f"""<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Slipway management API</title><style>{STYLE}</style></head>
<body><h1>Slipway management API</h1><p id="about"></p>
<p><a href="openapi.json">openapi.json</a></p><input placeholder="Filter" aria-label="Filter"><main></main>
<script>{SCRIPT}</script></body></html>
"""


def _allowed(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


POLICY = (
    f"default-src 'none'; connect-src 'self'; script-src {_allowed(SCRIPT)}; style-src {_allowed(STYLE)}; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

// BERT's WordPiece, as tokenizer.json of the tokenizers library describes it.

const SPACE = /\p{White_Space}/u, CONTROL = /[\p{Cc}\p{Cf}\p{Co}\p{Cs}]/u, PUNCTUATION = /[!-\/:-@\[-`{-~\p{P}]/u;
const CHINESE = [[0x4e00, 0x9fff], [0x3400, 0x4dbf], [0x20000, 0x2a6df], [0x2a700, 0x2b73f], [0x2b740, 0x2b81f],
                 [0x2b920, 0x2ceaf], [0xf900, 0xfaff], [0x2f800, 0x2fa1f]];

/** A function from a text to the numbers of its tokens, at most `limit` of them. */
export function makeTokenizer({model, normalizer, added_tokens: added}, limit) {
  const number = (token) => model.vocab[token];
  const special = new Map(added.map((token) => [token.content, token.id]));
  const longest = [...special.keys()].sort((a, b) => b.length - a.length);
  const escaped = longest.map((token) => token.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  const cut = escaped.length ? new RegExp(`(${escaped.join("|")})`) : /(?!)/;

  function normalize(text) {
    let found = [...text];
    if (normalizer.clean_text) found = found.filter(isKept).map((c) => (SPACE.test(c) ? " " : c));
    if (normalizer.handle_chinese_chars) found = found.map((c) => (isChinese(c) ? ` ${c} ` : c));
    let joined = found.join("");
    if (normalizer.strip_accents ?? normalizer.lowercase) joined = joined.normalize("NFD").replace(/\p{Mn}/gu, "");
    return normalizer.lowercase ? Array.from(joined, (c) => c.toLowerCase()).join("") : joined;
  }

  function pieces(word) {
    const letters = [...word], unknown = [number(model.unk_token)], found = [];
    if (letters.length > model.max_input_chars_per_word) return unknown;
    for (let start = 0, end; start < letters.length; start = end) {
      const prefix = start ? model.continuing_subword_prefix : "";
      for (end = letters.length; end > start; end--) {
        const piece = number(prefix + letters.slice(start, end).join(""));
        if (piece !== undefined) { found.push(piece); break; }
      }
      if (end === start) return unknown;
    }
    return found;
  }

  return (text) => {
    const found = [];
    for (const part of text.split(cut)) {
      if (special.has(part)) found.push(special.get(part));
      else for (const word of split(normalize(part))) found.push(...pieces(word));
    }
    return [number("[CLS]"), ...found.slice(0, limit - 2), number("[SEP]")];
  };
}

function isKept(c) {
  return "\t\n\r".includes(c) || (c !== "\ufffd" && !CONTROL.test(c));
}

function isChinese(c) {
  const point = c.codePointAt(0);
  return CHINESE.some(([first, last]) => first <= point && point <= last);
}

/** Words, and each sign of punctuation alone. */
function split(text) {
  const found = [];
  let word = "";
  for (const c of text) {
    const isSpace = SPACE.test(c);
    if (!isSpace && !PUNCTUATION.test(c)) { word += c; continue; }
    if (word) found.push(word);
    word = "";
    if (!isSpace) found.push(c);
  }
  if (word) found.push(word);
  return found;
}

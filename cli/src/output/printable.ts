// What of a text that somebody else wrote may reach the terminal? Letters, and no commands to it.

// C0 and C1 controls, and the marks that turn the direction of writing around.
const UNPRINTABLE = /[\p{Cc}\p{Bidi_Control}]/gu;

/** The text on one line: control characters are shown as escapes (`\u001b`, `\n`). */
export function printable(text: string): string {
  return text.replace(UNPRINTABLE, (character) => {
    if (character === "\n") return "\\n";
    if (character === "\t") return " ";
    return `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;
  });
}

/** The lines of a text such as a stack trace, each printable. */
export function printableLines(text: string): string[] {
  return text.replace(/\r\n?/g, "\n").replace(/\n+$/, "").split("\n").map(printable);
}

/** The text cut to a number of characters, with an ellipsis where something is missing. */
export function shortened(text: string, most: number): string {
  const characters = Array.from(text);
  return characters.length <= most ? text : `${characters.slice(0, Math.max(0, most - 1)).join("")}…`;
}

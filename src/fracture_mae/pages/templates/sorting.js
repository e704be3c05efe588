"use strict";
// A click on a heading sorts its table by that column: upwards, then downwards. What is blank or no number stays below.
const NUMBER = /^[+\-−]?\d[\d,]*(\.\d+)?(e[+\-]?\d+)?(?=\s*(%|\[|\+|$))/;
const BLANK = /^(undefined|not measured)?$/;

function numberIn(text) {
  const found = text.replace(/,/g, "").replace("−", "-").match(NUMBER);
  return found ? Number(found[0]) : NaN;
}

function compare(one, other, numeric) {
  return numeric ? one - other : one.localeCompare(other, "en", { numeric: true });
}

for (const table of document.querySelectorAll("table:not(.fixed)")) {
  const body = table.tBodies[0];
  if (!body || !table.tHead) continue;
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => {
    const texts = [...body.rows].map((row) => row.cells[column].textContent.trim());
    const told = texts.filter((text) => !BLANK.test(text));
    const numeric = told.length > 0 && told.every((text) => !Number.isNaN(numberIn(text)));
    if (numeric) {
      heading.classList.add("number");
      for (const row of body.rows) row.cells[column].classList.add("number");
    }
    if (texts.length < 2) return;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    heading.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      const upwards = heading.getAttribute("aria-sort") !== "ascending";
      for (const each of headings) if (each.hasAttribute("aria-sort")) each.setAttribute("aria-sort", "none");
      heading.setAttribute("aria-sort", upwards ? "ascending" : "descending");
      const rows = [...body.rows].map((row) => {
        const text = row.cells[column].textContent.trim();
        return { row, blank: BLANK.test(text), value: numeric ? numberIn(text) : text };
      });
      rows.sort((one, other) => {
        if (one.blank || other.blank) return one.blank - other.blank;
        return (upwards ? 1 : -1) * compare(one.value, other.value, numeric);
      });
      body.append(...rows.map(({ row }) => row));
    });
  });
}
// What is folded is printed too.
window.addEventListener("beforeprint", () => {
  for (const folded of document.querySelectorAll("details")) folded.open = true;
});

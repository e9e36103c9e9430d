// What on the page can't be read, or is not described: lists of places, by kind.
const SMALLEST = 11.5;  // pixels
const CONTRAST = 4.5;  // WCAG 2.2, AA
const found = {overflow: [], small: [], faint: [], cut: [], overlapping: [], unnamed: [], anchors: []};

const rgb = (text) => {
  const numbers = text.match(/[\d.]+/g).map(Number);
  return numbers.length === 3 ? [...numbers, 1] : numbers;
};
const luminance = (color) => {
  const [r, g, b] = color.slice(0, 3).map((value) => {
    const share = value / 255;
    return share <= 0.03928 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const contrast = (one, other) => {
  const [low, high] = [luminance(one), luminance(other)].sort((a, b) => a - b);
  return (high + 0.05) / (low + 0.05);
};
const background = (element) => {
  for (let e = element; e; e = e.parentElement) {
    const color = rgb(getComputedStyle(e).backgroundColor);
    if (color[3] > 0) return color;
  }
  return [255, 255, 255, 1];
};
const name = (element) => `${element.tagName} in ${element.closest("[id]")?.id}: ` +
  `${element.textContent.trim().slice(0, 40)}`;

if (document.scrollingElement.scrollWidth > innerWidth) {
  for (const e of document.querySelectorAll("body *")) {
    const box = e.getBoundingClientRect();
    if (box.right > innerWidth + 1 && !e.closest(".scroll") && box.width > 0) {
      found.overflow.push(`${name(e)} (${Math.round(box.right)} pixels)`);
    }
  }
  found.overflow.push(`the page is ${document.scrollingElement.scrollWidth} pixels wide`);
}

const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
const seen = new Set();
while (walker.nextNode()) {
  const element = walker.currentNode.parentElement;
  if (!walker.currentNode.data.trim() || seen.has(element)) continue;
  seen.add(element);
  if (!element.checkVisibility() || element.closest(".hidden, .skip, details:not([open]) > :not(summary)")) continue;
  const style = getComputedStyle(element);
  let size = parseFloat(style.fontSize);
  const svg = element.closest("svg");
  if (svg) size *= svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
  if (size < SMALLEST) found.small.push(`${name(element)} (${size.toFixed(1)} pixels)`);
  const ratio = contrast(rgb(svg ? style.fill : style.color), background(element));
  if (ratio < CONTRAST) found.faint.push(`${name(element)} (${ratio.toFixed(2)})`);
}

for (const svg of document.querySelectorAll("svg")) {
  const frame = svg.getBoundingClientRect();
  const texts = [...svg.querySelectorAll("text")].map((e) => [e, e.getBoundingClientRect()]);
  for (const [e, box] of texts) {
    if (box.left < frame.left - 3 || box.right > frame.right + 3 ||
        box.top < frame.top - 3 || box.bottom > frame.bottom + 3) {
      found.cut.push(name(e));
    }
  }
  texts.forEach(([e, one], n) => {
    for (const [f, other] of texts.slice(n + 1)) {
      const width = Math.min(one.right, other.right) - Math.max(one.left, other.left);
      const height = Math.min(one.bottom, other.bottom) - Math.max(one.top, other.top);
      const least = Math.min(one.width * one.height, other.width * other.height);
      if (width > 0 && height > 0 && width * height > 0.35 * least) {
        found.overlapping.push(`${name(e)} and ${f.textContent}`);
      }
    }
  });
}

for (const e of document.querySelectorAll("img:not([alt]), [role=img]:not([aria-label]), [tabindex]:not([aria-label])")) {
  found.unnamed.push(name(e));
}
for (const link of document.querySelectorAll("a[href^='#']")) {
  if (!document.getElementById(link.getAttribute("href").slice(1))) found.anchors.push(link.href);
}
const ids = [...document.querySelectorAll("[id]")].map((e) => e.id);
found.anchors.push(...ids.filter((id, n) => ids.indexOf(id) !== n && !/^[mp][0-9a-f]{10}$/.test(id)));
return Object.fromEntries(Object.entries(found).filter(([, places]) => places.length));

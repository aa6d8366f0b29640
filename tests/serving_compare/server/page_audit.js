// What an accessibility checker would say of the document, as a list of sentences.
() => {
  const problems = [];
  const luminance = (rgb) => {
    const [r, g, b] = rgb.map((value) => {
      const share = value / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const parse = (colour) => {
    const parts = colour.match(/[\d.]+/g).map(Number);
    return parts.length === 3 ? [...parts, 1] : parts;
  };
  const over = (top, below) => top.slice(0, 3).map((value, n) => value * top[3] + below[n] * (1 - top[3]));
  const ground = (element) => {
    const layers = [];
    for (let at = element; at; at = at.parentElement) layers.push(parse(getComputedStyle(at).backgroundColor));
    return layers.reverse().reduce((below, layer) => over(layer, below), [255, 255, 255]);
  };
  const seen = (element) => element.checkVisibility({ opacityProperty: true, visibilityProperty: true });
  for (const element of document.body.querySelectorAll("*")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!own || !seen(element) || element.closest("script, style, template, noscript, option")) continue;
    const style = getComputedStyle(element);
    const below = ground(element), ownInk = parse(style.color);
    for (let at = element; at; at = at.parentElement) ownInk[3] *= Number(getComputedStyle(at).opacity);
    const ink = over(ownInk, below);
    const [light, dark] = [luminance(ink), luminance(below)].sort((a, b) => b - a);
    const contrast = (light + 0.05) / (dark + 0.05);
    const isLarge = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && Number(style.fontWeight) >= 700);
    if (contrast < (isLarge ? 3 : 4.5)) problems.push(`contrast ${contrast.toFixed(2)} of "${element.textContent.trim().slice(0, 30)}"`);
  }
  for (const control of document.querySelectorAll("button, input, select, textarea, a[href]")) {
    if (!seen(control)) continue;
    const name = control.getAttribute("aria-label") || control.labels?.[0]?.textContent || control.textContent;
    if (!name.trim()) problems.push(`no name: ${control.outerHTML.slice(0, 60)}`);
    const box = control.closest("label")?.getBoundingClientRect() ?? control.getBoundingClientRect();
    if (Math.min(box.width, box.height) < 24) problems.push(`smaller than 24 pixels: ${control.outerHTML.slice(0, 60)}`);
    if (control.tabIndex < 0) problems.push(`out of reach of the keyboard: ${control.outerHTML.slice(0, 60)}`);
  }
  for (const picture of document.querySelectorAll("svg, img")) {
    if (!picture.getAttribute("aria-label") && picture.getAttribute("aria-hidden") !== "true") problems.push("a picture without words");
  }
  const ids = [...document.querySelectorAll("[id]")].map((element) => element.id);
  if (new Set(ids).size !== ids.length) problems.push("an id twice");
  const levels = [...document.querySelectorAll("h1, h2, h3, h4")].filter(seen).map((heading) => Number(heading.tagName[1]));
  if (levels.filter((level) => level === 1).length !== 1) problems.push("not one h1");
  if (levels.some((level, n) => n && level > levels[n - 1] + 1)) problems.push(`heading levels ${levels}`);
  for (const name of ["lang", "data-model"]) if (!document.documentElement.getAttribute(name)) problems.push(`html without ${name}`);
  for (const name of ["main", "h1", "[aria-live=polite]"]) if (!document.querySelector(name)) problems.push(`no ${name}`);
  for (const { attributes } of document.querySelectorAll("[aria-describedby], [aria-labelledby], label[for]"))
    for (const { name, value } of attributes)
      if (["aria-describedby", "aria-labelledby", "for"].includes(name) && !document.getElementById(value)) problems.push(`${name}=${value} leads nowhere`);
  return problems;
}

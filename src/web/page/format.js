// Numbers, times and elements for people.

/** Four digits, as few as they need: 0.0123, 1.234, 12,345, 1.2e-7. */
export function number(value, digits = 4) {
  if (value === null || value === undefined || Number.isNaN(value)) return "-";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-4 || size >= 1e7)) return value.toExponential(1);
  return value.toLocaleString("en", { maximumSignificantDigits: size >= 1000 ? Math.max(digits, Math.ceil(Math.log10(size + 1))) : digits });
}

/** Thousands of images: 0.2, 4.1, 1,250. */
export function kimg(value) {
  return value.toLocaleString("en", { maximumFractionDigits: value < 100 ? 1 : 0 });
}

export function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  const [minutes, hours, days] = [Math.floor(whole / 60), Math.floor(whole / 3600), Math.floor(whole / 86400)];
  if (days) return `${days} d ${hours % 24} h`;
  if (hours) return `${hours} h ${minutes % 60} min`;
  return minutes ? `${minutes} min ${whole % 60} s` : `${whole} s`;
}

/** The time of day, with the date if it is another day. */
export function clock(seconds) {
  const time = new Date(seconds * 1000);
  const day = time.toDateString() === new Date().toDateString() ? {} : { month: "short", day: "numeric" };
  return time.toLocaleString("en", { hour: "2-digit", minute: "2-digit", hour12: false, ...day });
}

/**
 * An element: `make("p", { class: "quiet" }, "text", child)`. Text never becomes HTML, whatever a run's files say.
 */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** Text in which `commands` stand between backticks. */
export function prose(text) {
  return text.split("`").map((part, index) => (index % 2 ? make("code", {}, part) : part));
}

/** The last part of a path. */
export const lastOf = (path) => path.replace(/\/+$/, "").split("/").pop();

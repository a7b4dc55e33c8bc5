"use strict";
// Browsers that do not know ::details-content print what is closed only if it is opened.
const closed = [];
addEventListener("beforeprint", () => {
  closed.push(...document.querySelectorAll("details:not([open])"));
  for (const each of closed) each.open = true;
});
addEventListener("afterprint", () => {
  for (const each of closed.splice(0)) each.open = false;
});
// The gallery's filters. Without JavaScript they stay hidden and every card is there.
const form = document.getElementById("filters");
if (form) {
  const cards = [...document.querySelectorAll(".card")];
  const count = document.getElementById("count");
  const rest = document.getElementById("rest");
  const [first, second] = document.querySelectorAll(".cards");
  const late = second ? [...second.children] : [];
  const show = () => {
    const { size, ...asked } = Object.fromEntries(new FormData(form));
    const wanted = Object.entries(asked).filter(([, value]) => value);
    const gallery = document.getElementById("gallery").classList;
    gallery.toggle("large", size === "large");
    gallery.toggle("filtered", wanted.length > 0); // how many more there are says nothing then
    if (rest && wanted.length) rest.open = true;
    if (second) (wanted.length ? first : second).append(...late); // one grid of what is asked for, without a hole
    let shown = 0;
    for (const card of cards) {
      card.hidden = wanted.some(([name, value]) => card.dataset[name] !== value);
      shown += !card.hidden;
    }
    count.textContent = shown
      ? `${shown} of ${cards.length} images`
      : `None of the ${cards.length} images is all of this; set one of these back to “all”.`;
  };
  form.addEventListener("change", show);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
  show();
}

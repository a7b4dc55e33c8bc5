"use strict";
// The gallery's filters. Without JavaScript they stay hidden and every card is shown.
const form = document.getElementById("filters");
if (form) {
  const cards = [...document.querySelectorAll(".card")];
  const count = document.getElementById("count");
  const show = () => {
    const wanted = [...new FormData(form)].filter(([, value]) => value);
    let shown = 0;
    for (const card of cards) {
      card.hidden = wanted.some(([name, value]) => card.dataset[name] !== value);
      shown += !card.hidden;
    }
    count.textContent = `${shown} of ${cards.length} images`;
  };
  form.addEventListener("change", show);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
  show();
}

// Figures on hover, and by arrow keys in a chart that has the focus. Without this the browser shows
// the same text as plain tooltips.
(() => {
  const tip = document.createElement('div');
  tip.id = 'tip';
  tip.hidden = true;
  tip.setAttribute('role', 'status');
  document.body.append(tip);
  let on = null;
  const hide = () => {
    if (on) on.classList.remove('on');
    on = null;
    tip.hidden = true;
  };
  const show = (mark, x, y) => {
    if (on !== mark) {
      hide();
      on = mark;
      mark.classList.add('on');
      tip.textContent = mark.dataset.tip;
    }
    tip.hidden = false;
    const box = tip.getBoundingClientRect();
    const left = Math.min(Math.max(4, x + 14), innerWidth - box.width - 4);
    const top = y + 18 + box.height > innerHeight ? y - box.height - 10 : y + 18;
    tip.style.left = Math.max(4, left) + 'px';
    tip.style.top = Math.max(4, top) + 'px';
  };
  for (const svg of document.querySelectorAll('svg[data-marks]')) {
    const marks = [...svg.querySelectorAll('[data-mark]')];
    for (const mark of marks) {
      const title = mark.querySelector('title');
      mark.dataset.tip = title ? title.textContent : '';
      if (title) title.remove();
      mark.addEventListener('pointermove', (e) => show(mark, e.clientX, e.clientY));
      mark.addEventListener('pointerleave', hide);
    }
    if (!marks.length) continue;
    svg.tabIndex = 0;
    let at = -1;
    svg.addEventListener('keydown', (e) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[e.key];
      if (e.key === 'Escape') return hide();
      if (e.key === 'Home') at = 0;
      else if (e.key === 'End') at = marks.length - 1;
      else if (step) at = Math.min(Math.max(at + step, 0), marks.length - 1);
      else return;
      e.preventDefault();
      marks[at].scrollIntoView({ block: 'nearest', inline: 'nearest' });
      const box = marks[at].getBoundingClientRect();
      show(marks[at], box.left + box.width / 2, Math.min(box.bottom, innerHeight) - 8);
    });
    svg.addEventListener('blur', hide);
  }
})();

// A worker that waits: browsers slow the timers of a page that nobody sees to one a second, and those of its workers not. Each tick is asked
// for, so that a page that is slow is not flooded with those it missed.

onmessage = ({ data: ms }) => {
  setTimeout(() => postMessage(null), ms);
};

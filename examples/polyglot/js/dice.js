// Derives from each record what the clock says and numbers by chance.
//
// All of it is the step's own: run again, the step derives the same.

const encoder = new TextEncoder();

export const handler = {
  handle(step) {
    const random = crypto.getRandomValues(new Uint32Array(2));
    step.events().forEach((event, parent) => {
      const told = { now: Date.now(), random: [...random], math: Math.random(), offset: Number(event.offset) };
      console.log(`thrown at ${told.now}`);
      const value = encoder.encode(JSON.stringify(told));
      step.emit(parent, 'dice-js', [{ key: event.key, value, headers: [] }]);
    });
  },
};

// What the tests stand on: the SDK as its environment sets it up (OPENAI_BASE_URL,
// OPENAI_API_KEY), and the acts of the process that started us.
import OpenAI from 'openai';

export const client = new OpenAI();

const slug = process.env.SLUG;
export const model = { echo: `${slug}/Echo-3.1:free`, down: `${slug}/down`, cut: `${slug}/cut` };

/** A question of one message. */
export const ask = (name, content, more = {}) => ({ model: name, messages: [{ role: 'user', content }], ...more });

/** Has the starter do something, and returns what it answers. */
export async function act(name) {
  const url = new URL(`/test/${name}`, process.env.OPENAI_BASE_URL);
  const answer = await fetch(url, { method: 'POST' });
  if (!answer.ok) throw new Error(`${name}: ${answer.status} ${await answer.text()}`);
  return answer.json();
}

export const set = (pair) => act(`config?set=${encodeURIComponent(pair)}`);

/** What the door has counted since the last reset, which this is one of. */
export async function attempts() {
  const list = await act('attempts');
  await act('reset');
  return list ?? [];
}

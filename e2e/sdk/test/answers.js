import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CursorPage } from 'openai/pagination';
import { act, ask, attempts, client, model } from './ground.js';

test('chat', async () => {
  const { data, response, request_id: id } = await client.chat.completions.create({
    model: 'freehold-answer-1',
    messages: [
      { role: 'system', content: 'Our warehouse stands in Rotterdam. Gift cards never expire.' },
      { role: 'user', content: 'Where is the warehouse?' },
    ],
  }).withResponse();
  assert.match(data.choices[0].message.content, /Rotterdam/);
  assert.equal(data.choices[0].finish_reason, 'stop');
  assert.equal(data.choices[0].message.refusal, null);
  assert.equal(data.choices[0].logprobs, null);
  assert.equal(data.usage.total_tokens, data.usage.prompt_tokens + data.usage.completion_tokens);
  assert.ok(id);
  assert.equal(data._request_id, id);
  for (const name of ['limit', 'remaining', 'reset'].flatMap((what) => [`${what}-tokens`, `${what}-requests`])) {
    assert.ok(response.headers.get(`x-ratelimit-${name}`), `no x-ratelimit-${name}`);
  }
  assert.ok(response.headers.get('openai-processing-ms'));
});

test('stream', async () => {
  const stream = await client.chat.completions.create(
    ask(model.echo, 'hello there', { stream: true, n: 2, stream_options: { include_usage: true } }));
  const texts = ['', ''];
  const ids = new Set();
  let usage = null;
  for await (const chunk of stream) {
    ids.add(chunk.id);
    assert.ok('usage' in chunk);
    assert.equal(usage, null, 'a chunk behind the usage');
    for (const choice of chunk.choices) texts[choice.index] += choice.delta.content ?? '';
    if (chunk.usage) {
      assert.deepEqual(chunk.choices, []);
      usage = chunk.usage;
    }
  }
  assert.deepEqual(texts, ['hello there', 'hello there']);
  assert.ok(usage.total_tokens > 0);
  assert.equal(ids.size, 1);
});

test('stream without usage, by the helper', async () => {
  const stream = client.chat.completions.stream(ask(model.echo, 'hello there'));
  stream.on('chunk', (chunk) => assert.ok(chunk.choices.length > 0 && !chunk.usage));
  const all = await stream.finalChatCompletion();
  assert.equal(all.choices[0].message.content, 'hello there');
  assert.equal(all.choices[0].finish_reason, 'stop');
});

test('a silence is no end', async () => {
  let text = '';
  for await (const chunk of await client.chat.completions.create(ask(model.echo, 'quiet', { stream: true }))) {
    text += chunk.choices[0].delta.content ?? '';
  }
  assert.equal(text, 'ab');
});

test('an aborted stream stops the engine', async () => {
  const stream = await client.chat.completions.create(ask(model.echo, 'slow', { stream: true }));
  let at;
  for await (const chunk of stream) {
    assert.ok(chunk.choices.length > 0);
    at = Date.now();
    stream.controller.abort();
    break;
  }
  const left = await act('left');
  assert.ok(left.at - at < 1000, `the engine went on for ${left.at - at} ms`);
});

const weather = (run) => ({
  type: 'function',
  function: {
    name: 'weather', description: 'The weather in a city', parse: JSON.parse, function: run,
    parameters: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] },
  },
});

test('tools, there and back', async () => {
  const asked = [];
  const runner = client.chat.completions.runTools(ask(model.echo, 'How is it in Oslo?', {
    tools: [weather(({ city }) => { asked.push(city); return 'rain'; })],
  }));
  assert.equal(await runner.finalContent(), 'The tool says rain');
  assert.deepEqual(asked, ['Oslo']);
});

test('tools, streamed', async () => {
  const runner = client.chat.completions.runTools(ask(model.echo, 'How is it in Oslo?', {
    stream: true, tools: [weather(() => 'snow')],
  }));
  assert.equal(await runner.finalContent(), 'The tool says snow');
});

test('parameters reach the engine as they are', async () => {
  const sent = {
    n: 2, seed: 7, temperature: 0.5, stop: ['END'], reasoning_effort: 'low',
    response_format: { type: 'json_schema', json_schema: { name: 'answer', strict: true, schema: { type: 'object' } } },
  };
  const answer = await client.chat.completions.parse(ask(model.echo, '{"ok":true}', sent));
  assert.equal(answer.choices.length, 2);
  assert.deepEqual(answer.choices[1].message.parsed, { ok: true });
  const { body } = await act('upstream');
  for (const [name, value] of Object.entries(sent)) assert.deepEqual(body[name], value, name);
});

test('embeddings, as base64 unless floats are asked for', async () => {
  const input = ['a cat', 'a dog'];
  const usual = await client.embeddings.create({ model: 'freehold-embed-1', input });
  const floats = await client.embeddings.create({ model: 'freehold-embed-1', input, encoding_format: 'float' });
  const base64 = await client.embeddings.create({ model: 'freehold-embed-1', input, encoding_format: 'base64' });
  assert.equal(usual.data.length, 2);
  assert.ok(usual.data[1].embedding.length >= 64, `${usual.data[1].embedding.length} numbers`);
  usual.data[1].embedding.forEach((x, i) => assert.equal(x, Math.fround(floats.data[1].embedding[i])));
  assert.equal(typeof base64.data[1].embedding, 'string');
  assert.ok(usual.usage.prompt_tokens > 0);
});

test('models, with a slash in their id', async () => {
  const ids = [];
  for await (const m of client.models.list()) ids.push(m.id);
  assert.ok(ids.includes(model.echo) && ids.includes('freehold-answer-1'), ids.join());
  assert.equal((await client.models.retrieve(model.echo)).id, model.echo);
});

test('paging', async () => {
  for (const text of ['one', 'two', 'three', 'four', 'five']) await client.chat.completions.create(ask(model.echo, text));
  await attempts();
  const ids = new Set();
  for await (const p of client.getAPIList('/predictions', CursorPage, { query: { limit: 2 } })) {
    assert.match(p.id, /^pred_/);
    ids.add(p.id);
  }
  assert.ok(ids.size >= 5, `${ids.size} predictions`);
  assert.equal((await attempts()).length, Math.ceil(ids.size / 2));
});

import assert from 'node:assert/strict';
import { test } from 'node:test';
import OpenAI from 'openai';
import { act, ask, attempts, client, model, set } from './ground.js';

/** Checks that a call fails as the SDK's own error, and returns it. */
async function refused(call, kind, status, code, param) {
  const error = await call.then(() => assert.fail('it was answered'), (e) => e);
  assert.ok(error instanceof kind, `${error.name}: ${error.message}`);
  assert.equal(error.status, status);
  assert.equal(error.code, code);
  assert.equal(error.param, param);
  assert.ok(error.type && error.message && error.requestID, `${error.type}, ${error.message}, ${error.requestID}`);
  assert.deepEqual(Object.keys(error.error).sort(), ['code', 'message', 'param', 'type']);
  return error;
}

const once = async () => assert.equal((await attempts()).length, 1, 'attempts');

const create = (body, options) => client.chat.completions.create(body, options);

test('errors have their class, code, param and request id', async () => {
  await attempts();
  await refused(create(ask('none', 'x')), OpenAI.NotFoundError, 404, 'model_not_found', 'model');
  await once();
  await refused(create(ask('none', 'x', { stream: true })), OpenAI.NotFoundError, 404, 'model_not_found', 'model');
  await once();
  await refused(client.withOptions({ apiKey: 'fh_nobody_nothing' }).models.list(), OpenAI.AuthenticationError, 401, 'invalid_api_key', null);
  await once();
  await refused(create(ask(model.echo, 'x', { temperature: 9 })), OpenAI.BadRequestError, 400, 'invalid_request', 'temperature');
  await once();
  await refused(create(ask(model.echo, 'x', { audio: { voice: 'a', format: 'wav' } })), OpenAI.BadRequestError, 400, 'invalid_request', 'audio');
  await once();
  await refused(client.embeddings.create({ model: 'freehold-embed-1', input: [1, 2] }), OpenAI.BadRequestError, 400, 'invalid_request', 'input[0]');
  await once();
  await refused(client.models.retrieve('another/model'), OpenAI.NotFoundError, 404, 'model_not_found', 'model');
  await once();
  const down = await refused(create(ask(model.down, 'x'), { maxRetries: 0 }), OpenAI.InternalServerError, 502, 'engine_error', null);
  assert.doesNotMatch(JSON.stringify(down.error), /secret words/);
  await once();
});

test('a stream that breaks off ends in an error', async () => {
  let text = '';
  const stream = await create(ask(model.cut, 'x', { stream: true }));
  await assert.rejects(async () => {
    for await (const chunk of stream) text += chunk.choices[0].delta.content ?? '';
  }, OpenAI.APIError);
  assert.equal(text, 'so far');
  await once();
});

test('an engine that fails is asked again', async () => {
  await refused(create(ask(model.down, 'x'), { maxRetries: 1 }), OpenAI.InternalServerError, 502, 'engine_error', null);
  assert.equal((await attempts()).length, 2);
});

/** Checks that the first attempt was refused, and the next one came when it was told to. */
async function patient(status) {
  const list = await attempts();
  assert.deepEqual([list[0].status, list.at(-1).status], [status, 200]);
  assert.deepEqual(list.map((a) => a.retry), list.map((_, i) => `${i}`));
  const pause = Date.parse(list[1].at) - Date.parse(list[0].at);
  assert.ok(pause >= 1000 && pause < 5000, `tried again after ${pause} ms`);
}

test('Retry-After of a 503 is waited for', async () => {
  await act('mend-after-503');
  const answer = await create(ask(model.echo, 'hello'));
  assert.equal(answer.choices[0].message.content, 'hello');
  await patient(503);
});

test('with every slot taken a request waits as it is told to', async () => {
  await set('concurrent_request_limit=1');
  try {
    const holder = await create(ask(model.echo, 'slow', { stream: true }));
    await holder[Symbol.asyncIterator]().next();
    await attempts();
    const waiting = create(ask(model.echo, 'hello'));
    for (const end = Date.now() + 5000; Date.now() < end;) {
      if ((await act('attempts'))?.some((a) => a.status === 429)) break;
    }
    holder.controller.abort();
    await waiting;
    await patient(429);
    await act('left');
  } finally {
    await set('concurrent_request_limit=10');
  }
});

test('an Idempotency-Key has one answer', async () => {
  const headers = { 'Idempotency-Key': 'node-small' };
  const before = await act('upstream');
  const first = await create(ask(model.echo, 'once'), { headers });
  const second = await create(ask(model.echo, 'once'), { headers });
  assert.equal(second.id, first.id);
  assert.equal((await act('upstream')).calls, before.calls + 1);
  await attempts();
  await refused(create(ask(model.echo, 'another'), { headers }), OpenAI.UnprocessableEntityError, 422, 'idempotency_mismatch', 'Idempotency-Key');
  await once();
});

test('a conflict is one attempt', async () => {
  // An answer too large to be kept can't be given again, however often one asks.
  const headers = { 'Idempotency-Key': 'node-large' };
  await create(ask(model.echo, 'huge'), { headers });
  await attempts();
  await refused(create(ask(model.echo, 'huge'), { headers }), OpenAI.ConflictError, 409, 'conflict', 'Idempotency-Key');
  await once();
});

test('an exhausted month is one attempt', async () => {
  await set('monthly_token_limit=10');
  try {
    const before = await act('upstream');
    const content = 'many words '.repeat(50);
    await attempts();
    const error = await refused(create(ask(model.echo, content)), OpenAI.RateLimitError, 429, 'insufficient_quota', null);
    assert.equal(error.headers.get('x-should-retry'), 'false');
    assert.equal(error.headers.get('retry-after'), null);
    assert.equal(error.headers.get('x-ratelimit-remaining-tokens'), '0');
    await once();
    await refused(create(ask(model.echo, content, { stream: true })), OpenAI.RateLimitError, 429, 'insufficient_quota', null);
    await once();
    await refused(client.embeddings.create({ model: 'freehold-embed-1', input: content }), OpenAI.RateLimitError, 429, 'insufficient_quota', null);
    await once();
    assert.equal((await act('upstream')).calls, before.calls);
  } finally {
    await set('monthly_token_limit=1000000');
  }
});

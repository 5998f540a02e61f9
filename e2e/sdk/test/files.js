import assert from 'node:assert/strict';
import { test } from 'node:test';
import OpenAI, { toFile } from 'openai';
import { attempts, client } from './ground.js';

const content = '{"messages": []}\n';

test('files', async () => {
  const plain = await client.files.create({ file: await toFile(Buffer.from(content), 'train.jsonl'), purpose: 'fine-tune' });
  assert.equal(plain.object, 'file');
  assert.equal(plain.filename, 'train.jsonl');
  assert.equal(plain.bytes, content.length);
  assert.equal(plain.purpose, 'fine-tune');
  assert.equal(plain.status, 'processed');
  const large = await client.files.create({
    file: await toFile(Buffer.alloc(9 << 20, 'x'), 'wärme.bin'),
    purpose: 'user_data',
    expires_after: { anchor: 'created_at', seconds: 3600 },
  });
  assert.equal(large.filename, 'wärme.bin');
  assert.equal(large.bytes, 9 << 20);
  assert.equal(large.expires_at, large.created_at + 3600);
  assert.equal((await client.files.waitForProcessing(large.id, { pollInterval: 50 })).id, large.id);

  const ids = [];
  for await (const file of client.files.list({ limit: 1 })) ids.push(file.id);
  assert.deepEqual(ids, [large.id, plain.id]);
  assert.deepEqual((await client.files.list({ purpose: 'fine-tune' })).data.map((file) => file.id), [plain.id]);
  assert.equal((await client.files.retrieve(plain.id)).id, plain.id);
  assert.equal(await (await client.files.content(plain.id)).text(), content);
  for (const id of ids) assert.deepEqual(await client.files.delete(id), { id, object: 'file', deleted: true });
  await attempts();
  for (const call of ['retrieve', 'content', 'delete']) {
    await assert.rejects(client.files[call](plain.id), (e) => {
      assert.ok(e instanceof OpenAI.NotFoundError);
      assert.equal(e.code, 'not_found');
      assert.ok(e.requestID);
      return true;
    });
  }
  await assert.rejects(client.files.create({ file: await toFile(Buffer.from('x'), 'x'), purpose: 'batch' }), (e) => {
    assert.ok(e instanceof OpenAI.BadRequestError);
    assert.equal(e.param, 'purpose');
    assert.match(e.message, /fine-tune/);
    return true;
  });
  assert.equal((await attempts()).length, 4);
});

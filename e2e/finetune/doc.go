// Package finetune tells the story of a tenant's own model, from the upload of its
// data to an answer, as a client with OpenAI's own library lives it: real nodes as
// processes, a real Postgres and object store, the built-in trainer, and a second
// Freehold as somebody else's fine-tuning API. It consists of tests alone.
package finetune

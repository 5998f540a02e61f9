// Package inference is the path of a request once its caller is known: allowed
// model, system prompt, personal data hidden, a bound on what will be sent, admit,
// engine, personal data brought back, settle. It keeps the answers that an
// Idempotency-Key may ask for again, and seals what it added to audits. It borrows
// the tenant's database and never holds it while an engine works. It knows OpenAI's
// request format, and neither HTTP nor how a tenant's database is reached.
package inference

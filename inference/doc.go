// Package inference is the path of a request once its caller is known: allowed
// model, system prompt, admit, engine, settle. It borrows the tenant's database
// and never holds it while an engine works. It knows OpenAI's request format, and
// neither HTTP nor how a tenant's database is reached.
package inference

// Package pii finds personal data and secrets in text, replaces them, and puts
// them back into what a model answers.
//
// A [Scanner] holds what a tenant allows and denies. [Scanner.Tag] replaces each
// match by a fixed tag, [EMAIL], so that equal texts stay equal. A [Session] is one
// request: it replaces each value by a placeholder of its own, [EMAIL_1_k3f9…], and
// restores exactly those placeholders in the answer, also where it arrives in
// pieces. Secrets are one-way: a session tags them and keeps nothing of them.
//
// # How it finds
//
// One pass over the bytes finds where words of digits and letters begin, and the
// few symbols that can introduce a match. At each, the recognisers of that class
// look at a bounded stretch around it, or at a longer one that no other look
// covers again, so the time is linear in the length of the text whatever it holds.
// There are no regular expressions. What can be computed is (Luhn, mod 97, country
// lengths, numbering plans); words nearby, in several languages, raise what is
// weak, and lower what looks like an order number or a version.
//
// To add an entity, add a row to the table in entity.go: its name, its candidate
// class, its recogniser.
//
// # What it does not find
//
// Names, postal addresses and dates of birth: they need a model, not a rule. Mail
// addresses without a top-level domain (user@host). Digits of other scripts and of
// full width, and values with invisible characters inside. Numbers of a JSON
// document that aren't strings: a placeholder would change their type. Values
// spread over several messages.
//
// It knows text and JSON, and neither tenants, requests nor engines. It keeps,
// logs and sends nothing.
package pii

// Package need says what needs a person now, and which command to run next. It
// knows the catalog's overview and what nodes say of themselves, and asks no
// tenant's server: it answers also when one is away.
package need

// Package mail sends what the outbox owes: it renders letters from templates and
// hands them to a mail server, or writes them to files. What is owed, and to whom,
// it is told by the catalog; it never sees a secret of a tenant, and of the mail
// server's password no error tells anything.
package mail

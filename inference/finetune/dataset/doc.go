// Package dataset reads training data: files of chat examples as OpenAI has them,
// one JSON object a line. [Validate] says what is wrong with a file, line by line;
// [Redact] writes what trainers get, with personal data hidden as serving hides it;
// [Examples] gives its questions and answers.
//
// Files are read once, a line at a time: a line has at most [MaxLine] bytes, a file
// at most [MaxExamples] lines, so that memory is bounded whatever is uploaded.
// Nothing that is said of a file quotes it: members are named where their names are
// plain words, and nothing else is.
//
// It knows a tenant's policy, and neither tenants, jobs nor where files lie.
package dataset

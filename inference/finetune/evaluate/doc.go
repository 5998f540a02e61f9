// Package evaluate measures a model by what it answered to questions whose answers
// are known: how often it is right, how sure it was, which answers it mixes up, and
// what would come of declining more or fewer questions. It knows answers and
// numbers, and neither models, files nor tenants.
package evaluate

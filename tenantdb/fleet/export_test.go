package fleet

// AfterStep has fn called after each step of Create: the place where a test kills it.
func (f *Fleet) AfterStep(fn func(step string) error) { f.afterStep = fn }

// Template is the database that tenants are cloned from.
func (f *Fleet) Template() string { return f.template }

// Verifier is for its own test.
var Verifier = verifier

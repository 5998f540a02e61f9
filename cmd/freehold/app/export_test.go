package app

// WriteEnv writes a file of one variable as dev writes dev.env.
func WriteEnv(path, name, value string) error { return writeEnv(path, []envVar{{name, value}}) }

// ReadEnv reads such a file.
var ReadEnv = readEnv

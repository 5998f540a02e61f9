package pgtest

import (
	"flag"
	"runtime"
	"strconv"
)

// Patient is for TestMain, before MainLeak, of a package whose tests wait more than
// they work: three times as many run at a time, unless -parallel says otherwise.
func Patient() {
	flag.Parse()
	at, usual := flag.Lookup("test.parallel"), runtime.GOMAXPROCS(0)
	if at.Value.String() == strconv.Itoa(usual) {
		_ = at.Value.Set(strconv.Itoa(3 * usual)) // a number is taken
	}
}

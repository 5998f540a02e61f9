package blob

// Join and JoinList are how keys are made, for FuzzKey: it must try millions
// without a store.
var (
	Join     = join
	JoinList = joinList
)

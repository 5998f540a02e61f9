package child

// share is a slot's part of the processors: cores of them from the end, further to
// the front for each slot, and from the end again when they are used up. All of
// them when there are no more than cores.
func share(all []int, cores, slot int) []int {
	parts := len(all) / max(cores, 1)
	if cores <= 0 || parts == 0 {
		return all
	}
	end := len(all) - slot%parts*cores
	return all[end-cores : end]
}

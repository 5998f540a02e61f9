// One process and one order: some of these change the tenant.
import './answers.js';
import './files.js';
import './failures.js';

// What Renovate itself makes of updates it has found: {config, packageFiles} in, its branches out.
import { readFileSync } from "node:fs";
import { getConfig } from "renovate/dist/config/defaults.js";
import { resolveConfigPresets } from "renovate/dist/config/presets/index.js";
import { mergeChildConfig } from "renovate/dist/config/utils.js";
import { init } from "renovate/dist/logger/index.js";
import { getPrNotes } from "renovate/dist/workers/repository/update/pr/body/notes.js";
import { branchifyUpgrades } from "renovate/dist/workers/repository/updates/branchify.js";

await init();
const { config, packageFiles } = JSON.parse(readFileSync(0, "utf8"));
const resolved = mergeChildConfig(getConfig(), (await resolveConfigPresets(config)).config);
// Left alone, it would look into a Git history for how its commits should be called.
const known = { semanticCommits: "disabled", repository: "ops/homelab", errors: [], warnings: [] };
const { branches } = await branchifyUpgrades({ ...resolved, ...known }, packageFiles);
const shown = branches.map((branch) => ({
  files: branch.upgrades.map((upgrade) => upgrade.packageFile),
  automerge: branch.automerge,
  labels: [...branch.labels, ...branch.addLabels],
  schedule: branch.schedule,
  notes: getPrNotes(branch).trim(),
}));
console.log(JSON.stringify(shown));

--- The init file of the Neovim under test: this checkout's plugin, options from $LACUNA_TEST_OPTIONS (JSON), messages
--- kept in `notified` instead of shown, because a prompt to press Enter would stop the remote control.
vim.o.swapfile = false
vim.o.shadafile = 'NONE'
vim.o.undofile = false
vim.o.expandtab = false
vim.o.cmdheight = 2
vim.opt.runtimepath:prepend(vim.env.LACUNA_PLUGIN)

-- The filetype plugin of Python would start one Python after the other to look for a provider.
for _, provider in ipairs({ 'python3', 'node', 'perl', 'ruby' }) do
  vim.g[('loaded_%s_provider'):format(provider)] = 0
end

_G.notified = {}
if vim.env.LACUNA_TEST_NOTIFY ~= 'show' then
  local function keep(text)
    table.insert(_G.notified, text)
  end
  vim.notify = keep
  vim.notify_once = keep
end

local options = vim.json.decode(vim.env.LACUNA_TEST_OPTIONS or '{}', { luanil = { object = true } })
if vim.env.LACUNA_TEST_SETUP == 'global' then
  vim.g.lacuna = options
else
  require('lacuna').setup(options)
end
